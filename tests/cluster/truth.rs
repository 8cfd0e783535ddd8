//! Whether the status tells the truth, and how soon.
