//! From what the user wrote to what is meant: every default taken, every value checked, every name made.
//!
//! Pure. What comes out has no reason to be refused by the API server.
