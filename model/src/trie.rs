//! A trie in a double array, as the library Darts lays it out and `SentencePiece` keeps
//! its tables.
//!
//! Each node is one u32, a unit. The child of the node at `p` for the byte `b` is at
//! `p ^ offset ^ b`, if the unit there bears the label `b`; where a key ends, the value is
//! at `p ^ offset`, as the child for the byte 0, which no key has. So following a key
//! costs one look per byte, and finds every key that a text begins with on its way.
//!
//! | bits of a node | |
//! |---|---|
//! | 0 to 7 | label |
//! | 8 | a key ends here |
//! | 9 | the offset is to be multiplied by 256 |
//! | 10 to 30 | offset |
//! | 31 | 0 |
//!
//! A value has bit 31 set, so that it bears no byte's label, and 31 bits of its own.

use std::collections::BTreeSet;

/// Marks a value.
const VALUE: u32 = 1 << 31;
/// Marks a node where a key ends.
const ENDS: u32 = 1 << 8;
/// Which part of a unit must equal a byte.
const LABEL: u32 = VALUE | 0xff;
/// Labels change a position within a block of this many units only.
const BLOCK: usize = 256;
/// The most units that offsets of 21 bits reach; the largest known vocabularies, of
/// 250,000 pieces, take half of them.
const MAX_UNITS: usize = 1 << 21;
/// In how many blocks, the last ones, room for a node's children is looked for.
const OPEN_BLOCKS: usize = 16;

/// A trie in place. Whatever stands in it, a search ends and does not panic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trie<'a>(&'a [u32]);

impl<'a> Trie<'a> {
    pub(crate) fn new(units: &'a [u32]) -> Self {
        Self(units)
    }

    /// The keys that `text` begins with, the shortest first: their lengths and values.
    pub(crate) fn prefixes(self, text: &[u8]) -> impl Iterator<Item = (usize, u32)> {
        let units = self.0;
        let mut position = units.first().map_or(0, |&root| offset(root));
        let nodes = text.iter().enumerate().map_while(move |(i, &byte)| {
            position ^= usize::from(byte);
            let unit = *units.get(position)?;
            if unit & LABEL != u32::from(byte) || byte == 0 {
                return None;
            }
            position ^= offset(unit);
            let value = (unit & ENDS != 0).then(|| units.get(position)).flatten();
            let value = value.filter(|&value| value & VALUE != 0);
            Some(value.map(|value| (i + 1, value & !VALUE)))
        });
        nodes.flatten()
    }

    /// The value of `key`.
    pub(crate) fn get(self, key: &[u8]) -> Option<u32> {
        let mut prefixes = self.prefixes(key);
        let (_, value) = prefixes.find(|&(length, _)| length == key.len())?;
        Some(value)
    }

    /// Whether every offset stays within the trie and every value is `valid`: one pass in
    /// order, without a look at what a node leads to.
    pub(crate) fn is_sound(self, valid: impl Fn(u32) -> bool) -> bool {
        let len = self.0.len();
        let units = self.0.iter().enumerate();
        let all = units.fold(true, |all, (i, &unit)| {
            // Where the node's children are: within the block of this one.
            let children = i ^ offset(unit);
            all & if unit & VALUE == 0 {
                children < len
            } else {
                valid(unit & !VALUE)
            }
        });
        all && len.is_multiple_of(BLOCK)
    }

    /// Whether there is a value wherever a key ends.
    pub(crate) fn has_all_values(self) -> bool {
        let mut units = self.0.iter().enumerate();
        units.all(|(i, &unit)| {
            let value = || self.0.get(i ^ offset(unit));
            unit & VALUE != 0 || unit & ENDS == 0 || value().is_some_and(|&v| v & VALUE != 0)
        })
    }
}

fn offset(unit: u32) -> usize {
    let shift = (unit >> 9 & 1) * 8;
    ((unit >> 10) as usize) << shift
}

/// Makes the trie of `keys`, which are sorted, without doubles, not empty and without a
/// zero byte, and of their values below 2^31. `None` if they take too many units.
pub(crate) fn build(keys: &[(&[u8], u32)]) -> Option<Vec<u32>> {
    let mut room = Room::default();
    room.grow();
    room.take(0);
    // What is left to do: keys that share their first `depth` bytes, and their node.
    let mut nodes = vec![(keys, 0, 0)];
    while let Some((keys, depth, node)) = nodes.pop() {
        // The zero that follows a key's end is the label of its value.
        let label = |key: &[u8]| key.get(depth).copied().unwrap_or(0);
        let children: Vec<_> = keys
            .chunk_by(|a, b| label(a.0) == label(b.0))
            .map(|keys| (label(keys[0].0), keys))
            .collect();
        let labels: Vec<u8> = children.iter().map(|&(label, _)| label).collect();
        let base = room.find(&labels)?;
        room.units[node] |= ((node ^ base) as u32) << 10;
        for (label, keys) in children {
            let child = base ^ usize::from(label);
            if label == 0 {
                room.units[node] |= ENDS;
                room.units[child] = VALUE | keys[0].1;
            } else {
                room.units[child] = u32::from(label);
                nodes.push((keys, depth + 1, child));
            }
        }
    }
    Some(room.units)
}

/// Units, of which some are free.
#[derive(Default)]
struct Room {
    units: Vec<u32>,
    /// The free positions in the open blocks.
    free: BTreeSet<usize>,
    /// Which positions are one's children's base; two nodes with the same base would see
    /// each other's children.
    is_base: Vec<bool>,
}

impl Room {
    /// Takes places for children with these labels; gives their base.
    fn find(&mut self, labels: &[u8]) -> Option<usize> {
        let Some(&first) = labels.first() else {
            return Some(0);
        };
        loop {
            let mut bases = self.free.iter().map(|free| free ^ usize::from(first));
            let fits = |&base: &usize| {
                let mut rest = labels[1..].iter();
                !self.is_base[base] && rest.all(|&b| self.free.contains(&(base ^ usize::from(b))))
            };
            if let Some(base) = bases.find(fits) {
                self.is_base[base] = true;
                for &label in labels {
                    self.take(base ^ usize::from(label));
                }
                return Some(base);
            }
            if self.units.len() == MAX_UNITS {
                return None;
            }
            self.grow();
        }
    }

    fn take(&mut self, position: usize) {
        self.free.remove(&position);
    }

    /// Opens a block, and closes the oldest one: it is nearly full, and looking for the last
    /// places in it takes longer than they are worth.
    fn grow(&mut self) {
        let len = self.units.len();
        self.units.resize(len + BLOCK, 0);
        self.is_base.resize(len + BLOCK, false);
        self.free.extend(len..len + BLOCK);
        self.free = self
            .free
            .split_off(&(len + BLOCK).saturating_sub(OPEN_BLOCKS * BLOCK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn check(keys: &BTreeMap<Vec<u8>, u32>, texts: &[Vec<u8>]) {
        let pairs: Vec<_> = keys.iter().map(|(key, &value)| (&key[..], value)).collect();
        let units = build(&pairs).unwrap();
        let trie = Trie::new(&units);
        assert!(trie.has_all_values());
        assert!(trie.is_sound(|value| keys.values().any(|&v| v == value)));
        for text in keys.keys().chain(texts) {
            let found: Vec<_> = trie.prefixes(text).collect();
            let expected: Vec<_> = (1..=text.len())
                .filter_map(|n| Some((n, *keys.get(&text[..n])?)))
                .collect();
            assert_eq!(found, expected, "{text:?}");
            assert_eq!(trie.get(text), keys.get(text).copied());
        }
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        let few = prop::collection::vec(1_u8..5, 1..8);
        let any = prop::collection::vec(1_u8..=255, 1..20);
        prop_oneof![few, any]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_keys_that_a_text_begins_with_are_found(
            keys in prop::collection::btree_map(key(), 0..1_u32 << 31, 0..300),
            texts in prop::collection::vec(key(), 20),
        ) {
            check(&keys, &texts);
        }

        #[test]
        fn a_search_in_anything_ends(units in prop::collection::vec(any::<u32>(), 0..600), text in key()) {
            assert!(Trie::new(&units).prefixes(&text).count() <= text.len());
        }
    }

    #[test]
    fn a_node_may_have_every_byte_for_a_child() {
        let keys = (0..3_000_u32).map(|i| (vec![1 + (i % 255) as u8, 1 + (i / 255) as u8], i));
        check(&keys.collect(), &[b"ab\0".to_vec(), vec![0]]);
    }

    #[test]
    fn an_offset_or_a_value_beyond_its_bounds_is_noticed() {
        let sound = build(&[(b"a", 3), (b"b", 4)]).unwrap();
        let is_sound = |units: &[u32]| Trie::new(units).is_sound(|value| value < 5);
        assert!(is_sound(&sound) && is_sound(&[]));
        assert!(!is_sound(&sound[1..]));
        assert!(!Trie::new(&sound).is_sound(|value| value < 4));
        let last = sound.iter().rposition(|&unit| unit & VALUE != 0).unwrap();
        let mut no_value = sound.clone();
        no_value[last] = 0;
        assert!(is_sound(&no_value) && !Trie::new(&no_value).has_all_values());
        // Bit 9 multiplies by 256.
        for root in [256 << 10, 1 << 30, (1 << 10) | (1 << 9)] {
            let mut units = sound.clone();
            units[0] = root;
            assert!(!is_sound(&units), "{root:x}");
        }
    }
}
