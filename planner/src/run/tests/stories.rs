//! What happens in the main stories, with the words that users read.
