//! Quality of service: who may send how much, and in which order.
//! Must not do I/O, spawn, sleep or read a clock.

pub mod bucket;

pub use bucket::TokenBucket;
