//! Samples of a metric, as the encoder takes them.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

use crate::engine::health::latencies::Latencies;

/// Labels of a sample.
type Labels<'a> = Vec<(&'static str, &'a str)>;

/// The samples that are written.
pub(super) struct Samples<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl<'a> Samples<'a> {
    pub(super) const fn new(encoder: DescriptorEncoder<'a>) -> Samples<'a> {
        Samples { encoder }
    }

    /// Writes a gauge for each of the labels.
    pub(super) fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// Writes a counter for each of the labels; its name gets the suffix `_total`.
    pub(super) fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            let mut metric = metric.encode_family(&labels)?;
            metric.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
        }
        Ok(())
    }

    /// Writes a histogram for each of the labels.
    pub(super) fn histograms<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, &'l Latencies)>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, latencies) in samples {
            let buckets: Vec<_> = latencies.buckets().collect();
            let (sum, number) = (latencies.sum().as_secs_f64(), latencies.number());
            let mut metric = metric.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(sum, number, &buckets, None)?;
        }
        Ok(())
    }
}
