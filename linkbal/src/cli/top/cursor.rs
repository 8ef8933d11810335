//! The selected row of a list whose rows come, go and change places.

/// A selection: it stays with its row, wherever that goes, and at its place if the row goes away.
#[derive(Clone, Debug)]
pub(super) struct Cursor<K> {
    /// The row; `None` for the first one, whichever that is.
    key: Option<K>,
    place: usize,
}

impl<K> Default for Cursor<K> {
    fn default() -> Cursor<K> {
        Cursor { key: None, place: 0 }
    }
}

impl<K: PartialEq> Cursor<K> {
    /// Returns the place of the selected row among the rows of now; `None` if there are none.
    pub(super) fn at(&self, rows: impl ExactSizeIterator<Item = K>) -> Option<usize> {
        let last = rows.len().checked_sub(1)?;
        let mut rows = rows;
        let known = self.key.as_ref().and_then(|key| rows.position(|row| row == *key));
        Some(known.unwrap_or_else(|| self.place.min(last)))
    }

    /// Moves by so many rows, up if that is negative, and not beyond the ends.
    pub(super) fn step(&mut self, rows: &[K], by: isize)
    where
        K: Clone,
    {
        let Some(at) = self.at(rows.iter().cloned()) else { return };
        let to = at.saturating_add_signed(by).min(rows.len().saturating_sub(1));
        self.place = to;
        self.key = rows.get(to).filter(|_| to > 0).cloned();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_selection_stays_with_its_row() {
        let rows = |text: &str| text.chars().collect::<Vec<_>>().into_iter();
        let mut cursor = Cursor::default();
        assert_eq!(cursor.at(rows("")), None);
        cursor.step(&['a', 'b', 'c'], 1);
        assert_eq!(cursor.at(rows("abc")), Some(1));
        assert_eq!(cursor.at(rows("cab")), Some(2));
        assert_eq!(cursor.at(rows("ac")), Some(1), "it is gone: its place");
        assert_eq!(cursor.at(rows("a")), Some(0));
        cursor.step(&['a', 'b', 'c'], -9);
        assert_eq!(cursor.at(rows("cab")), Some(0), "the first one, whichever it is");
    }

    proptest! {
        #[test]
        fn a_selection_is_always_a_row(
            steps in prop::collection::vec((0u8..9, -20isize..20), 0..20), end in 0u8..9,
        ) {
            let mut cursor = Cursor::default();
            for (rows, by) in steps {
                cursor.step(&(0..usize::from(rows)).collect::<Vec<_>>(), by);
            }
            let at = cursor.at(0..usize::from(end));
            prop_assert_eq!(at.is_none(), end == 0);
            prop_assert!(at.is_none_or(|at| at < usize::from(end)));
        }
    }
}
