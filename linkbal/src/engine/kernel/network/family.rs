//! A family by its name, for serde.

use linkbal_common::uplink::Family;
use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub(crate) fn serialize<S: Serializer>(family: &Family, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(family.name())
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Family, D::Error> {
    let name = String::deserialize(deserializer)?;
    let found = Family::ALL.into_iter().find(|family| family.name() == name);
    found.ok_or_else(|| D::Error::custom(format!("{name:?} is no address family")))
}
