//! The graph of jobs that `needs` makes.
//! Must not know states of jobs.
