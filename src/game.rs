//! What a game implements and sees.
