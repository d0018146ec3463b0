//! Values that many refer to.

use std::collections::HashMap;
use std::hash::Hash;

/// A list in which equal values have one place.
pub(super) struct Interned<T> {
    /// In the order of their places.
    pub(super) values: Vec<T>,
    places: HashMap<T, usize>,
}

impl<T: Clone + Eq + Hash> Interned<T> {
    pub(super) fn new() -> Self {
        Self { values: Vec::new(), places: HashMap::new() }
    }

    /// The place of a value, which is added unless it is there.
    pub(super) fn place(&mut self, value: T) -> usize {
        *self.places.entry(value).or_insert_with_key(|value| {
            self.values.push(value.clone());
            self.values.len() - 1
        })
    }
}
