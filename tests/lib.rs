//! Shared pieces of the whole-binary tests.
#![forbid(unsafe_code)]
