//! Numbers that look random and are the same on every machine.

/// splitmix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to, and without, 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 up to, and without, `end`.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    pub(crate) fn chance(&mut self, of_one: f64) -> bool {
        self.unit() < of_one
    }

    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Sizes of layers are spread like this: most near the median, few very large.
    pub(crate) fn log_normal(&mut self, median: f64, spread: f64) -> f64 {
        let (radius, angle) = ((1.0 - self.unit()).ln() * -2.0, self.unit() * std::f64::consts::TAU);
        median * (spread * radius.sqrt() * angle.cos()).exp()
    }
}

/// Ranks, of which the first is drawn most often.
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    /// How often one of the ranks up to here is drawn, of one.
    up_to: Vec<f64>,
}

impl Zipf {
    pub(crate) fn new(ranks: usize, skew: f64) -> Self {
        let weights: Vec<f64> = (1..=ranks).map(|rank| (rank as f64).powf(-skew)).collect();
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let up_to = weights.iter().map(|weight| {
            sum += weight / total;
            sum
        });
        Self { up_to: up_to.collect() }
    }

    pub(crate) fn draw(&self, random: &mut Random) -> usize {
        let at = random.unit();
        self.up_to.partition_point(|up_to| *up_to <= at).min(self.up_to.len().saturating_sub(1))
    }
}

/// A number that is not negative, without what is behind its point.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes and times, far below 2^53")]
pub(crate) const fn whole(number: f64) -> u64 {
    number.max(0.0) as u64
}
