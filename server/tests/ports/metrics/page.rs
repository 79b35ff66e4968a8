//! A strict reader of the page: what it accepts, Prometheus accepts.

use std::collections::{BTreeMap, BTreeSet};

/// A series: its name, with a histogram's suffix, and its labels in their order.
pub(crate) type Series = (String, Vec<(String, String)>);

/// A page taken apart.
#[derive(Default)]
pub(crate) struct Page {
    /// Type by family.
    pub(crate) types: BTreeMap<String, String>,
    pub(crate) samples: BTreeMap<Series, f64>,
}

impl Page {
    /// Reads a page.
    ///
    /// # Panics
    /// Where the page breaks a rule of the format, or of histograms.
    pub(crate) fn read(text: &str) -> Page {
        let mut page = Page::default();
        let mut helped = BTreeSet::new();
        let mut current = String::new();
        assert!(text.ends_with('\n'), "the last line has no end");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect(line);
                assert!(!help.trim().is_empty(), "{line}");
                assert!(helped.insert(name.to_owned()), "HELP twice: {line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect(line);
                assert!(helped.contains(name), "TYPE without HELP: {line}");
                let before = page.types.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "TYPE twice: {line}");
                name.clone_into(&mut current);
            } else {
                let (series, value) = sample(line);
                let family = page.family(&series.0);
                assert_eq!(family.as_deref(), Some(&*current), "out of its family: {line}");
                let before = page.samples.insert(series, value);
                assert_eq!(before, None, "a series twice: {line}");
            }
        }
        page.check_histograms();
        page
    }

    /// The values of a series' name, by their labels.
    pub(crate) fn named<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = (&'a [(String, String)], f64)> + 'a {
        let samples = self.samples.iter().filter(move |((found, _), _)| found == name);
        samples.map(|((_, labels), value)| (labels.as_slice(), *value))
    }

    /// The value of the one series with at least these labels.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted = |found: &[(String, String)]| {
            labels
                .iter()
                .all(|(name, value)| found.iter().any(|(n, v)| n == name && v == value))
        };
        let mut found = self.named(name).filter(|(found, _)| wanted(found));
        let value = found.next().map(|(_, value)| value);
        assert!(found.next().is_none(), "{name}{labels:?} is several series");
        value
    }

    /// The names of a family's labels, without a histogram's `le`.
    pub(crate) fn labels(&self, family: &str) -> BTreeSet<Vec<String>> {
        let of_family = |(name, _): &&Series| self.family(name).as_deref() == Some(family);
        self.samples
            .keys()
            .filter(of_family)
            .map(|(_, labels)| {
                let mut names: Vec<_> = labels.iter().map(|(name, _)| name.clone()).collect();
                names.retain(|name| name != "le");
                names.sort();
                names
            })
            .collect()
    }

    /// The bounds of a histogram's buckets, the last of them infinite.
    pub(crate) fn bounds(&self, family: &str) -> Vec<f64> {
        let mut bounds: Vec<f64> = self
            .named(&format!("{family}_bucket"))
            .map(|(labels, _)| le(labels))
            .collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        bounds
    }

    /// The family that a sample's name belongs to.
    fn family(&self, name: &str) -> Option<String> {
        if self.types.contains_key(name) {
            return Some(name.to_owned());
        }
        let mut families = ["_bucket", "_sum", "_count"]
            .into_iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .filter(|family| self.types.get(*family).is_some_and(|kind| is_compound(kind)));
        families.next().map(str::to_owned)
    }

    fn check_histograms(&self) {
        for (family, _) in self.types.iter().filter(|(_, kind)| *kind == "histogram") {
            let name = format!("{family}_count");
            let counts: Vec<_> = self.named(&name).collect();
            assert!(!counts.is_empty(), "{family} has no _count");
            for (labels, count) in counts {
                let sum = (format!("{family}_sum"), labels.to_vec());
                let sum = self.samples.get(&sum);
                assert!(sum.is_some_and(|sum| *sum >= 0.0), "{family}_sum{labels:?}");
                let buckets = self.buckets(family, labels);
                let rising = buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1);
                assert!(rising, "{family}{labels:?} is not cumulative: {buckets:?}");
                let last = buckets.last().expect(family);
                assert_eq!(*last, (f64::INFINITY, count), "{family}{labels:?}");
                assert_eq!(buckets.len(), self.bounds(family).len(), "{family}{labels:?}");
            }
        }
    }

    fn buckets(&self, family: &str, labels: &[(String, String)]) -> Vec<(f64, f64)> {
        let same = |found: &[(String, String)]| {
            let without: Vec<_> = found.iter().filter(|(name, _)| name != "le").collect();
            without.len() == labels.len() && without.iter().all(|label| labels.contains(label))
        };
        let mut buckets: Vec<_> = self
            .named(&format!("{family}_bucket"))
            .filter(|(found, _)| same(found))
            .map(|(found, count)| (le(found), count))
            .collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        buckets
    }
}

/// Whether a family's samples have other names than the family.
fn is_compound(kind: &str) -> bool {
    kind == "histogram" || kind == "summary"
}

fn le(labels: &[(String, String)]) -> f64 {
    let (_, bound) = labels
        .iter()
        .find(|(name, _)| name == "le")
        .expect("a bucket has a bound");
    number(bound)
}

fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        text => text.parse().unwrap_or_else(|_| panic!("no number: {text}")),
    }
}

/// `name{label="value",...} number`
fn sample(line: &str) -> (Series, f64) {
    let (series, value) = line.rsplit_once(' ').expect(line);
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, labels(rest.strip_suffix('}').expect(line))),
        None => (series, Vec::new()),
    };
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    assert!(!name.is_empty() && name.chars().all(valid), "{line}");
    ((name.to_owned(), labels), number(value))
}

fn labels(mut text: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").expect(text);
        let (mut value, mut escaped, mut end) = (String::new(), false, None);
        for (at, c) in rest.char_indices() {
            match c {
                _ if escaped => {
                    assert!(matches!(c, '\\' | '"' | 'n'), "a wrong escape: {text}");
                    value.push(if c == 'n' { '\n' } else { c });
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    end = Some(at + 1);
                    break;
                }
                c => value.push(c),
            }
        }
        let rest = &rest[end.expect("a label's value ends")..];
        assert!(
            labels.iter().all(|(known, _)| known != name),
            "a label twice: {text}"
        );
        labels.push((name.to_owned(), value));
        text = rest.strip_prefix(',').unwrap_or(rest);
    }
    labels
}
