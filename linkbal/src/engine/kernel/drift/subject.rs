//! Parts of linkbal's setup that others may undo, one by one.

use std::fmt;

use super::super::{
    refusal::Resource,
    resource::{Part, ResourceKind},
};

/// A part of linkbal's setup whose repairs are counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A resource of the kernel.
    Resource(Resource),
    /// A part of the datapath.
    Datapath(Part),
}

impl Subject {
    /// Returns the kind.
    pub(super) const fn kind(&self) -> ResourceKind {
        match self {
            Subject::Resource(resource) => resource.kind(),
            Subject::Datapath(_) => ResourceKind::Datapath,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Resource(resource) => resource.fmt(f),
            Subject::Datapath(part) => part.fmt(f),
        }
    }
}

impl From<Resource> for Subject {
    fn from(resource: Resource) -> Subject {
        Subject::Resource(resource)
    }
}

impl From<Part> for Subject {
    fn from(part: Part) -> Subject {
        Subject::Datapath(part)
    }
}
