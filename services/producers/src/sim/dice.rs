//! Chance, the same on every machine: a seeded ChaCha stream, and integer arithmetic on what it gives.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The one source of chance of a simulator.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// A stream of its own for each of these parts.
    pub fn new(parts: [u64; 4]) -> Dice {
        let mut seed = [0; 32];
        for (bytes, part) in seed.chunks_exact_mut(8).zip(parts) {
            bytes.copy_from_slice(&part.to_le_bytes());
        }
        Dice(ChaCha8Rng::from_seed(seed))
    }

    /// From 0 to `n` - 1; 0 where `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        // Multiply and shift: its bias is below n / 2^64.
        ((u128::from(self.0.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low).max(0) as u64 + 1) as i64
    }

    /// True in so many of a million cases.
    pub fn chance(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.below(1_000_000) < u64::from(per_million)
    }

    /// One of several; none of none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len() as u64) as usize)
    }

    /// An index, by weight.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut ticket = self.below(weights.iter().sum());
        for (at, &weight) in weights.iter().enumerate() {
            if ticket < weight {
                return at;
            }
            ticket -= weight;
        }
        0
    }

    /// Fills a slice.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// Puts a slice into an order by chance (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

/// Ranks by Zipf's law: rank k (from 0) comes up in proportion to 1 / (k + 1)^exponent.
#[derive(Debug, Clone)]
pub struct Zipf {
    /// Running sums of the weights, as whole numbers: the last bit of a power may differ from machine to machine.
    sums: Vec<u64>,
}

impl Zipf {
    /// For so many ranks.
    pub fn new(ranks: usize, exponent: f64) -> Zipf {
        let scale = f64::from(1_u32 << 30);
        let sums = (1..=ranks).scan(0, |sum, rank| {
            *sum += ((scale / (rank as f64).powf(exponent)).round() as u64).max(1);
            Some(*sum)
        });
        Zipf { sums: sums.collect() }
    }

    /// A rank by chance.
    pub fn draw(&self, dice: &mut Dice) -> usize {
        let ticket = dice.below(self.sums.last().copied().unwrap_or(0));
        self.sums.partition_point(|&sum| sum <= ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream_on_every_machine() {
        let mut dice = Dice::new([1, 2, 3, 4]);
        let drawn: Vec<u64> = (0..6).map(|_| dice.below(1_000)).collect();
        assert_eq!(drawn, [66, 345, 251, 272, 237, 192]);
    }

    #[test]
    fn popularity_falls_by_the_power_of_the_rank() {
        let (zipf, mut dice) = (Zipf::new(2_000, 0.8), Dice::new([7, 0, 0, 0]));
        let mut counts = vec![0_u32; 2_000];
        for _ in 0..1_000_000 {
            counts[zipf.draw(&mut dice)] += 1;
        }
        // 1 / Σ k^-0.8 over 2,000 ranks is 5.48 %; by rank 32 it is down to a sixteenth.
        assert!((53_800..55_800).contains(&counts[0]), "{}", counts[0]);
        assert!((3_200..3_650).contains(&counts[31]), "{}", counts[31]);
    }

    #[test]
    fn chances_come_up_as_often_as_they_should() {
        let mut dice = Dice::new([9, 0, 0, 0]);
        let hits = (0..1_000_000).filter(|_| dice.chance(20_000)).count();
        assert!((19_500..20_500).contains(&hits), "{hits}");
        assert!((0..1_000).all(|_| (-3..=3).contains(&dice.between(-3, 3))));
    }
}
