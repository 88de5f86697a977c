//! Forwarding rates of several variants, measured in turn.

use std::thread;

use super::cost;
use super::row::Row;
use super::sample::Sample;
use super::site::{Flow, Site, To};

/// Rounds of a block: what a variant costs in a block is its tenth percentile there, since all that
/// can happen to a measurement makes it longer.
const BLOCK: usize = 20;

/// What a rate is measured of.
#[derive(Clone, Copy)]
pub struct Variant<'a> {
    pub site: &'a Site,
    pub flow: Flow,
}

/// Packets per second of one processor, block by block, of each variant.
pub struct Rates(Vec<Vec<f64>>);

impl Rates {
    /// Every round measures every variant, and begins with another one, so that whatever else the
    /// machine does meets all of them alike.
    pub fn measure(blocks: usize, variants: &[Variant<'_>]) -> Self {
        let closed = Site::closed();
        let sender = variants.iter().map(|variant| Variant {
            site: &closed,
            flow: Flow {
                to: To::Nowhere,
                ..variant.flow
            },
        });
        let all: Vec<_> = variants.iter().copied().chain(sender.take(1)).collect();
        for variant in &all {
            variant.site.prepare();
        }
        let costs = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                cost::prepare_here();
                // The first packet of a flow makes its conntrack entry.
                round(&all, 0);
                (0..blocks).map(|_| block(&all)).collect::<Vec<_>>()
            });
            thread.join().unwrap()
        });
        let rates = |variant: usize| {
            let rate = |block: &Vec<f64>| 1.0 / (block[variant] - block[variants.len()]);
            costs.iter().map(rate).collect()
        };
        Self((0..variants.len()).map(rates).collect())
    }

    pub fn ratio(&self, variant: usize, base: usize) -> Sample {
        Sample::ratio(&self.0[variant], &self.0[base])
    }

    pub fn median(&self, variant: usize) -> f64 {
        Sample::new(self.0[variant].iter().copied()).median()
    }

    /// A row that sets one variant against another.
    pub fn row(&self, what: &str, variant: usize, base: usize) -> Row {
        Row::new(what, rate(self.median(variant)))
            .baseline(rate(self.median(base)))
            .ratio(self.ratio(variant, base))
    }

    /// The same with the least ratio that is promised.
    pub fn promise(&self, what: &str, variant: usize, base: usize, least: f64) -> Row {
        let held = self.ratio(variant, base).median() >= least;
        self.row(what, variant, base)
            .promised(format!("at least {least}"), held)
    }
}

/// Seconds per packet of each variant.
fn block(all: &[Variant<'_>]) -> Vec<f64> {
    let rounds: Vec<_> = (0..BLOCK).map(|first| round(all, first)).collect();
    (0..all.len())
        .map(|variant| Sample::new(rounds.iter().map(|round| round[variant])).percentile(10))
        .collect()
}

fn round(all: &[Variant<'_>], first: usize) -> Vec<f64> {
    let mut costs = vec![0.0; all.len()];
    for step in 0..all.len() {
        let at = (first + step) % all.len();
        costs[at] = all[at].flow.cost(all[at].site);
    }
    costs
}

fn rate(packets: f64) -> String {
    format!("{:.0} kpps", packets / 1000.0)
}
