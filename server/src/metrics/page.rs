//! A page under construction: families and their samples.

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use store::shell::HistogramValue;

/// The families of a page under construction.
#[derive(Default)]
pub(super) struct Page(Vec<MetricFamily>);

impl Page {
    pub(super) fn family(&self, name: &str, help: &str, kind: MetricType) -> Family {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        Family {
            family,
            samples: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, family: Family) {
        let Family { mut family, samples } = family;
        family.set_metric(samples);
        self.0.push(family);
    }

    /// A family that has no sample yet is not shown.
    pub(super) fn push_if_any(&mut self, family: Family) {
        if !family.samples.is_empty() {
            self.push(family);
        }
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counter_s(name, help, value as f64);
    }

    pub(super) fn counter_s(&mut self, name: &str, help: &str, value: f64) {
        let mut family = self.family(name, help, MetricType::COUNTER);
        family.add_value(&[], value);
        self.push(family);
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauge_of(name, help, &[], value);
    }

    pub(super) fn gauge_of(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        let mut family = self.family(name, help, MetricType::GAUGE);
        family.add_value(labels, value);
        self.push(family);
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, bounds: &[f64], value: &HistogramValue) {
        let mut family = self.family(name, help, MetricType::HISTOGRAM);
        family.add_histogram(&[], bounds, value);
        self.push(family);
    }

    pub(super) fn text(mut self) -> String {
        self.0.sort_by(|one, other| one.name().cmp(other.name()));
        // The encoder refuses only families without name or sample.
        let mut text = String::new();
        match TextEncoder::new().encode_utf8(&self.0, &mut text) {
            Ok(()) => text,
            Err(error) => format!("# {error}\n"),
        }
    }
}

/// One family and its samples.
pub(super) struct Family {
    family: MetricFamily,
    samples: Vec<Metric>,
}

impl Family {
    pub(super) fn add(&mut self, labels: &[(&str, &str)], value: u64) {
        self.add_value(labels, value as f64);
    }

    /// A histogram over `bounds`.
    pub(super) fn add_histogram(&mut self, labels: &[(&str, &str)], bounds: &[f64], value: &HistogramValue) {
        let counts = &value.buckets;
        let mut histogram = Histogram::default();
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(bounds.len());
        for (&bound, &count) in bounds.iter().zip(counts) {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        histogram.set_bucket(buckets);
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(value.sum);
        let mut metric = labelled(labels);
        metric.set_histogram(histogram);
        self.samples.push(metric);
    }

    pub(super) fn add_value(&mut self, labels: &[(&str, &str)], value: f64) {
        let mut metric = labelled(labels);
        match self.family.get_field_type() {
            MetricType::COUNTER => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            _ => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.samples.push(metric);
    }
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let labels = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    Metric::from_label(labels.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_in_the_text_format_of_0_0_4() {
        let mut page = Page::default();
        page.counter("b_total", "Counts.", 3);
        page.gauge_of("a", "Shows \"x\".", &[("l", "v\"w")], 1.5);
        let times = HistogramValue {
            buckets: vec![1, 2, 4],
            sum: 0.5,
        };
        page.histogram("c_seconds", "Times.", &[0.001, 0.002], &times);
        assert_eq!(
            page.text(),
            "# HELP a Shows \"x\".\n# TYPE a gauge\na{l=\"v\\\"w\"} 1.5\n\
             # HELP b_total Counts.\n# TYPE b_total counter\nb_total 3\n\
             # HELP c_seconds Times.\n# TYPE c_seconds histogram\n\
             c_seconds_bucket{le=\"0.001\"} 1\nc_seconds_bucket{le=\"0.002\"} 3\nc_seconds_bucket{le=\"+Inf\"} 7\n\
             c_seconds_sum 0.5\nc_seconds_count 7\n"
        );
    }
}
