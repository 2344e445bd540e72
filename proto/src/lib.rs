//! weft.v1.
