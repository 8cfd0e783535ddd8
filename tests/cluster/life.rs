//! The whole life of a set, by kubectl alone.
