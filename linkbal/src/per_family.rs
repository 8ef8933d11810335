//! A pair of values, one for each family.

use std::ops::{Index, IndexMut};

use linkbal_common::uplink::Family;
use serde::{Deserialize, Serialize};

/// A value for IPv4 and one for IPv6. Serialized as an array in that order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(from = "[T; 2]", into = "[T; 2]", bound(serialize = "T: Clone + Serialize"))]
pub struct PerFamily<T> {
    /// Value for IPv4.
    pub ipv4: T,
    /// Value for IPv6.
    pub ipv6: T,
}

impl<T> PerFamily<T> {
    /// Creates a pair of the same value.
    pub const fn both(value: T) -> PerFamily<T>
    where
        T: Copy,
    {
        PerFamily { ipv4: value, ipv6: value }
    }

    /// Creates both values.
    pub fn from_fn(mut value: impl FnMut(Family) -> T) -> PerFamily<T> {
        PerFamily { ipv4: value(Family::Ipv4), ipv6: value(Family::Ipv6) }
    }

    /// Returns the values with their families, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = (Family, &T)> {
        [(Family::Ipv4, &self.ipv4), (Family::Ipv6, &self.ipv6)].into_iter()
    }

    /// Returns the values with their families, IPv4 first.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Family, &mut T)> {
        [(Family::Ipv4, &mut self.ipv4), (Family::Ipv6, &mut self.ipv6)].into_iter()
    }

    /// Returns the values, IPv4 first.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        [&mut self.ipv4, &mut self.ipv6].into_iter()
    }

    /// Returns both values as a function changes them.
    pub fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> PerFamily<U> {
        PerFamily { ipv4: change(&self.ipv4), ipv6: change(&self.ipv6) }
    }

    /// Returns the values, IPv4 first.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, value)| value)
    }
}

/// Returns the other family.
pub const fn other(family: Family) -> Family {
    match family {
        Family::Ipv4 => Family::Ipv6,
        Family::Ipv6 => Family::Ipv4,
    }
}

impl<T> Index<Family> for PerFamily<T> {
    type Output = T;

    fn index(&self, family: Family) -> &T {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }
}

impl<T> IndexMut<Family> for PerFamily<T> {
    fn index_mut(&mut self, family: Family) -> &mut T {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }
}

impl<T> From<[T; 2]> for PerFamily<T> {
    fn from([ipv4, ipv6]: [T; 2]) -> PerFamily<T> {
        PerFamily { ipv4, ipv6 }
    }
}

impl<T> From<PerFamily<T>> for [T; 2] {
    fn from(both: PerFamily<T>) -> [T; 2] {
        [both.ipv4, both.ipv6]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_are_in_the_order_of_their_array() {
        let both = PerFamily::from_fn(|family| family == Family::Ipv6);
        assert_eq!(both, PerFamily::from([false, true]));
        assert_eq!(serde_json::to_string(&both).expect("a pair"), "[false,true]");
        let families: Vec<Family> = both.iter().map(|(family, _)| family).collect();
        assert_eq!(families, Family::ALL);
    }
}
