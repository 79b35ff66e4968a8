//! The table of resources: what is served, under which paths and names, and where it is stored. A resource that is served
//! in two versions has two rows, of which one is how it is stored.

mod table;

pub use self::table::RESOURCES;

/// One resource in one version.
#[derive(Debug)]
pub struct Resource {
    /// Its group, empty for the core.
    pub group: &'static str,
    /// The version within the group.
    pub version: &'static str,
    /// The plural, which stands in paths.
    pub plural: &'static str,
    /// The singular.
    pub singular: &'static str,
    /// The kind of its objects.
    pub kind: &'static str,
    /// Whether an object belongs to a namespace.
    pub namespaced: bool,
    /// What kubectl takes for its name as well.
    pub short_names: &'static [&'static str],
    /// The groups of kubectl's that it belongs to, as `all`.
    pub categories: &'static [&'static str],
    /// The directory in the store, below the prefix.
    pub directory: &'static str,
    /// The version in which it is stored, as `apiVersion` has it, where that is another.
    pub stored_as: Option<&'static str>,
    /// The name of its type, as in OpenAPI documents.
    pub type_name: &'static str,
    /// What there is below an object.
    pub subresources: &'static [Subresource],
    /// Whether `metadata.generation` counts changes of what it asks for.
    pub generation: bool,
    /// Whether there is nothing to store: a question that is answered when it is created.
    pub question: bool,
    /// After how many seconds an object goes by itself; 0 for never.
    pub ttl_s: u32,
    /// In what it differs from most.
    pub ways: &'static [Way],
}

/// In what resources differ for no deeper reason than that a real server has it so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// An update of an object that is not there makes it.
    MadeByUpdate,
    /// An update has to say which version it is of.
    UpdatedByVersion,
    /// A deletion is answered with the object that it was of.
    ShownWhenDeleted,
    /// What an object owns stays when it is deleted, if nothing else is asked for; whoever asks for nothing is told this.
    Orphans(&'static str),
    /// Deleting it begins with emptying it, which takes no time of its own.
    DeletedInSteps,
    /// An update of the status changes no metadata.
    StatusAlone,
    /// An update of the status changes no labels.
    StatusWithoutLabels,
    /// Whoever asks for it is told that there is something better.
    Deprecated(&'static str),
}

/// What is addressed below an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subresource {
    /// What a controller says of it.
    Status,
    /// The number of its replicas.
    Scale,
    /// On which node a pod is to run.
    Binding,
    /// A pod is asked to go, if that is allowed now.
    Eviction,
    /// Containers that are added to a running pod.
    EphemeralContainers,
    /// The resources of a running pod.
    Resize,
    /// The finalizers in the spec of a namespace.
    Finalize,
    /// A token for a service account.
    Token,
    /// The approval of a certificate.
    Approval,
}

impl Resource {
    /// `group/version`, or the version alone for the core.
    #[must_use]
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The plural with the group behind a dot, as texts have it.
    #[must_use]
    pub fn qualified(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// The kind of its lists.
    #[must_use]
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// Whether objects have this subresource.
    #[must_use]
    pub fn has(&self, subresource: Subresource) -> bool {
        self.subresources.contains(&subresource)
    }

    /// Whether it differs from most in this.
    #[must_use]
    pub fn is(&self, way: Way) -> bool {
        self.ways.contains(&way)
    }

    /// What a deletion is told that leaves behind what the object owns because nothing was said of it; nothing where it
    /// does not leave anything behind.
    #[must_use]
    pub fn orphans(&self) -> Option<&'static str> {
        self.ways.iter().find_map(|way| match way {
            Way::Orphans(told) => Some(*told),
            _ => None,
        })
    }

    /// What every request to it is told about it.
    #[must_use]
    pub fn deprecation(&self) -> Option<&'static str> {
        self.ways.iter().find_map(|way| match way {
            Way::Deprecated(told) => Some(*told),
            _ => None,
        })
    }

    /// The row of the version in which it is stored: itself for most.
    #[must_use]
    pub fn stored(&'static self) -> &'static Resource {
        let stored = |row: &&Resource| row.directory == self.directory && row.stored_as.is_none();
        match self.stored_as {
            Some(_) => RESOURCES.iter().find(stored).unwrap_or(self),
            None => self,
        }
    }
}

impl Subresource {
    /// The last part of the path.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Subresource::Status => "status",
            Subresource::Scale => "scale",
            Subresource::Binding => "binding",
            Subresource::Eviction => "eviction",
            Subresource::EphemeralContainers => "ephemeralcontainers",
            Subresource::Resize => "resize",
            Subresource::Finalize => "finalize",
            Subresource::Token => "token",
            Subresource::Approval => "approval",
        }
    }
}

/// The resource of this plural.
#[must_use]
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES
        .iter()
        .find(|row| row.group == group && row.version == version && row.plural == plural)
}

/// The resource whose objects are of this kind.
#[must_use]
pub fn of_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    RESOURCES
        .iter()
        .find(|row| row.group == group && row.version == version && row.kind == kind)
}

/// Groups and their versions, the preferred one of each group first, in the order of the table.
#[must_use]
pub fn groups() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for row in RESOURCES {
        match groups.iter_mut().find(|(group, _)| *group == row.group) {
            None => groups.push((row.group, vec![row.version])),
            Some((_, versions)) if !versions.contains(&row.version) => versions.push(row.version),
            Some(_) => {}
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_rows_are_the_same() {
        let mut seen = BTreeSet::new();
        for row in RESOURCES {
            assert!(seen.insert((row.group, row.version, row.plural)), "{row:?}");
            assert_eq!(row.plural, row.plural.to_lowercase());
            assert!(row.question || !row.directory.is_empty(), "{row:?}");
        }
    }

    /// Where two share a directory, one of them is how both are stored.
    #[test]
    fn a_directory_is_of_one_version() {
        for row in RESOURCES.iter().filter(|row| !row.question) {
            let stored = row.stored();
            assert!(stored.stored_as.is_none(), "{row:?}");
            assert_eq!(stored.directory, row.directory);
            if let Some(version) = row.stored_as {
                assert_eq!(stored.api_version(), version);
            }
            let own = RESOURCES
                .iter()
                .filter(|other| other.directory == row.directory && other.stored_as.is_none());
            assert_eq!(own.count(), 1, "{}", row.directory);
        }
    }

    #[test]
    fn groups_are_found_in_order() {
        let groups = groups();
        assert_eq!(groups[0], ("", vec!["v1"]));
        assert!(groups.contains(&("autoscaling", vec!["v2", "v1"])));
    }
}
