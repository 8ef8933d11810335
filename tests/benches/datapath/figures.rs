//! Figures of several rounds, as a table.

/// A measured value, in nanoseconds per packet.
pub(crate) struct Figure {
    pub(crate) name: String,
    /// The values, one for each round.
    pub(crate) rounds: Vec<u32>,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>) -> Figure {
        Figure { name: name.into(), rounds: Vec::new() }
    }

    pub(crate) fn minimum(&self) -> u32 {
        self.rounds.iter().copied().min().unwrap_or(0)
    }

    fn median(&self) -> u32 {
        median(&mut self.rounds.clone())
    }

    fn maximum(&self) -> u32 {
        self.rounds.iter().copied().max().unwrap_or(0)
    }
}

/// Sorts the values and returns their median, or 0 if there are none.
pub(crate) fn median(values: &mut [u32]) -> u32 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// Prints the figures; the ratios are relative to the first one.
pub(crate) fn print(figures: &[Figure]) {
    println!("  {:<54} {:>7} {:>7} {:>7} {:>7}", "ns a packet", "min", "median", "max", "ratio");
    let measure = figures.first().map_or(0, Figure::median).max(1);
    for figure in figures {
        let ratio = f64::from(figure.median()) / f64::from(measure);
        println!(
            "  {:<54} {:>7} {:>7} {:>7} {ratio:>6.1}x",
            figure.name,
            figure.minimum(),
            figure.median(),
            figure.maximum(),
        );
    }
}
