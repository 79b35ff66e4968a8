//! Media types: what a body is, and what a client wants to have.

use std::cmp::Reverse;

use crate::status::{Reason, Status};

/// How an object is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Media {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Protobuf in Kubernetes' envelope.
    Protobuf,
}

/// As what an object is wanted, if not as itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AsKind {
    /// As itself.
    None,
    /// As rows of a table.
    Table,
    /// Its metadata alone.
    PartialObjectMetadata,
    /// The metadata of all that are listed.
    PartialObjectMetadataList,
    /// Discovery of all groups at once.
    ApiGroupDiscoveryList,
}

/// What a client gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// How it is written.
    pub media: Media,
    /// As what.
    pub as_kind: AsKind,
    /// The version of that, empty for the object itself.
    pub version: String,
    /// The group of that, empty for the object itself.
    pub group: String,
}

impl Media {
    /// All there are, the one first that is meant when nothing is said.
    pub const ALL: &[Media] = &[Media::Json, Media::Yaml, Media::Protobuf];

    /// Its name, as `application/json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Media::Json => "application/json",
            Media::Yaml => "application/yaml",
            Media::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// The `Content-Type` of a watch whose events are written so.
    #[must_use]
    pub fn stream_name(self) -> &'static str {
        match self {
            Media::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            other => other.name(),
        }
    }

    /// What a body is by its `Content-Type`; JSON if there is none.
    pub fn of_body(content_type: Option<&str>) -> Result<Media, Status> {
        let name = content_type.unwrap_or_default();
        let name = name.split(';').next().unwrap_or_default().trim();
        let found = Media::ALL
            .iter()
            .find(|media| media.name().eq_ignore_ascii_case(name));
        match found {
            Some(media) => Ok(*media),
            None if name.is_empty() => Ok(Media::Json),
            None => Err(Status::new(
                Reason::UnsupportedMediaType,
                format!(
                    "the body of the request was in an unknown format - accepted media types include: {}",
                    names(Media::ALL)
                ),
            )),
        }
    }
}

impl AsKind {
    /// The word of the parameter `as`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            AsKind::None => "",
            AsKind::Table => "Table",
            AsKind::PartialObjectMetadata => "PartialObjectMetadata",
            AsKind::PartialObjectMetadataList => "PartialObjectMetadataList",
            AsKind::ApiGroupDiscoveryList => "APIGroupDiscoveryList",
        }
    }

    /// Groups and versions in which it is had.
    fn versions(self) -> (&'static str, &'static [&'static str]) {
        match self {
            AsKind::None => ("", &[""]),
            AsKind::ApiGroupDiscoveryList => ("apidiscovery.k8s.io", &["v2", "v2beta1"]),
            _ => ("meta.k8s.io", &["v1", "v1beta1"]),
        }
    }
}

impl Accepted {
    /// The `Content-Type` of the answer.
    #[must_use]
    pub fn content_type(&self) -> String {
        match self.as_kind {
            AsKind::ApiGroupDiscoveryList => {
                let (media, group, version) = (self.media.name(), &self.group, &self.version);
                format!("{media};g={group};v={version};as={}", self.as_kind.name())
            }
            _ => self.media.name().to_owned(),
        }
    }
}

/// Picks from an `Accept` header the first that can be had: of these media, and besides the object itself as these kinds
/// (only JSON and YAML know tables). Without a header it is the first medium. Refused if there is nothing.
pub fn negotiate(accept: Option<&str>, media: &[Media], kinds: &[AsKind]) -> Result<Accepted, Status> {
    let plain = |media: Media| Accepted {
        media,
        as_kind: AsKind::None,
        version: String::new(),
        group: String::new(),
    };
    let accept = accept.unwrap_or_default().trim();
    if let ("", Some(first)) = (accept, media.first()) {
        return Ok(plain(*first));
    }
    let mut clauses: Vec<Clause<'_>> = accept.split(',').take(CLAUSES_MAX).map(Clause::read).collect();
    // Stable: among equals the order of the header stands.
    clauses.sort_by_key(|clause| (Reverse(clause.quality), clause.wildcards));
    for clause in clauses.iter().filter(|clause| clause.quality > 0) {
        let Some(found) = media.iter().find(|media| clause.matches(media.name())) else {
            continue;
        };
        if clause.as_kind.is_empty() {
            return Ok(plain(*found));
        }
        let kind = kinds.iter().find(|kind| {
            let (group, versions) = kind.versions();
            kind.name() == clause.as_kind && group == clause.group && versions.contains(&clause.version)
        });
        match kind {
            Some(AsKind::Table) if *found == Media::Protobuf => {}
            Some(kind) => {
                return Ok(Accepted {
                    media: *found,
                    as_kind: *kind,
                    version: clause.version.to_owned(),
                    group: clause.group.to_owned(),
                });
            }
            None => {}
        }
    }
    let text = format!("only the following media types are accepted: {}", names(media));
    Err(Status::new(Reason::NotAcceptable, text))
}

/// One of the alternatives of a header.
struct Clause<'a> {
    /// With the wildcard `*` for either part.
    name: &'a str,
    wildcards: usize,
    /// In thousandths.
    quality: u16,
    as_kind: &'a str,
    version: &'a str,
    group: &'a str,
}

impl<'a> Clause<'a> {
    fn read(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let mut clause = Clause {
            name,
            wildcards: name.matches('*').count(),
            quality: QUALITY_MAX,
            as_kind: "",
            version: "",
            group: "",
        };
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key.trim() {
                "q" => clause.quality = read_quality(value.trim()),
                "as" => clause.as_kind = value.trim(),
                "v" => clause.version = value.trim(),
                "g" => clause.group = value.trim(),
                _ => {}
            }
        }
        clause
    }

    fn matches(&self, name: &str) -> bool {
        if self.name == "*/*" || self.name.eq_ignore_ascii_case(name) {
            return true;
        }
        let prefix = self.name.strip_suffix('*').filter(|prefix| prefix.ends_with('/'));
        prefix.is_some_and(|prefix| {
            name.get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        })
    }
}

/// `0.8` as 800; what is no number counts in full.
fn read_quality(text: &str) -> u16 {
    let quality: f32 = text.parse().unwrap_or(1.0);
    #[expect(clippy::cast_possible_truncation, reason = "it is between 0 and 1000")]
    #[expect(clippy::cast_sign_loss, reason = "it is between 0 and 1000")]
    let thousandths = (quality.clamp(0.0, 1.0) * f32::from(QUALITY_MAX)) as u16;
    thousandths
}

fn names(media: &[Media]) -> String {
    let names: Vec<&str> = media.iter().map(|media| media.name()).collect();
    names.join(", ")
}

const QUALITY_MAX: u16 = 1000;

/// As many alternatives of a header are looked at.
const CLAUSES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[AsKind] = &[AsKind::Table, AsKind::PartialObjectMetadataList];

    fn picked(accept: &str) -> (Media, AsKind, String) {
        let accepted = negotiate(Some(accept), Media::ALL, LIST).unwrap();
        (accepted.media, accepted.as_kind, accepted.version)
    }

    /// Headers as clients send them.
    #[test]
    fn the_first_that_can_be_had_is_picked() {
        let json = (Media::Json, AsKind::None, String::new());
        let protobuf = (Media::Protobuf, AsKind::None, String::new());
        let table = |version: &str| (Media::Json, AsKind::Table, version.to_owned());
        for (accept, wanted) in [
            ("", json.clone()),
            ("*/*", json.clone()),
            ("application/*", json.clone()),
            ("application/json", json.clone()),
            ("application/json, */*", json.clone()),
            ("application/vnd.kubernetes.protobuf, */*", protobuf.clone()),
            ("application/vnd.kubernetes.protobuf,application/json", protobuf),
            ("application/yaml", (Media::Yaml, AsKind::None, String::new())),
            ("text/html, application/xhtml+xml, */*;q=0.8", json.clone()),
            ("*/*;q=0.5, application/yaml;q=0.1", json.clone()),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,\
                 application/json",
                table("v1"),
            ),
            (
                "application/json;as=Table;g=meta.k8s.io;v=v1beta1",
                table("v1beta1"),
            ),
            (
                "application/json;as=Table;g=meta.k8s.io;v=v9, application/json",
                json.clone(),
            ),
            (
                "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json",
                json,
            ),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,\
                 application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
                (
                    Media::Protobuf,
                    AsKind::PartialObjectMetadataList,
                    "v1".to_owned(),
                ),
            ),
        ] {
            assert_eq!(picked(accept), wanted, "{accept}");
        }
        let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        let accepted = negotiate(Some(metadata), &[Media::Json], LIST).unwrap();
        assert_eq!(accepted.content_type(), "application/json");
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        for accept in [
            "text/html",
            "application/json;q=0",
            "text/*",
            "application",
            "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1",
        ] {
            let status = negotiate(Some(accept), Media::ALL, LIST).unwrap_err();
            assert_eq!(status.code, 406, "{accept}");
            assert_eq!(
                status.message,
                "only the following media types are accepted: application/json, application/yaml, \
                 application/vnd.kubernetes.protobuf"
            );
        }
    }

    #[test]
    fn discovery_says_what_it_is() {
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        let accepted = negotiate(Some(accept), &[Media::Json], &[AsKind::ApiGroupDiscoveryList]).unwrap();
        assert_eq!(
            accepted.content_type(),
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        );
    }
}
