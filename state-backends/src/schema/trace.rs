//! Finds the schema of a type by running its serde implementations.
//!
//! A type is deserialised again and again by a [`Tracer`], which notes what it is asked for and answers with made-up
//! values. Each pass explores one more variant of an enum, until all are known. A type inside of itself is answered
//! with the smallest value there is. A type that rejects a made-up value is tried with others, and is left opaque if
//! it rejects them all, together with what cannot exist without it.
//!
//! The values so made are then serialised, watched by an [observer](super::observe): it knows the names that are
//! written, and finds types that write something else than they read.

mod tracer;

use std::any::type_name;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::observe::observe;
use super::project::project;
use super::samples::{CANDIDATES, samples};
use super::{Content, NamedType, Schema, Shape, Variant};
use crate::codec::Codec;
use crate::descriptor::strip_paths;
use tracer::Fault;

/// How often a type is deserialised at most.
const MAX_PASSES: usize = 5000;

/// The schema of `T`, or why values of it cannot be read back.
pub(super) fn trace<T: Serialize + DeserializeOwned>() -> Result<Schema, String> {
    let Some((mut schema, values)) = explore::<T>()? else { return Ok(Schema::opaque::<T>()) };
    let sampled = |schema: &Schema| -> Vec<T> {
        (0..CANDIDATES).flat_map(|set| samples(schema, set)).filter_map(|value| project(value).ok()).collect()
    };
    // First for the names, without which no sample is read.
    for value in values.iter() {
        if let Err(reason) = observe(&mut schema, value) {
            return settle(&values, reason);
        }
    }
    let schema = tidy(schema);
    let values = sampled(&schema);
    let mut copy = schema.clone();
    for value in &values {
        if let Err(reason) = observe(&mut copy, value) {
            return settle(&values, reason);
        }
    }
    Ok(schema)
}

/// A type that does not write what it reads: fine if the codecs get by with it, but then it has no schema.
fn settle<T: Serialize + DeserializeOwned>(values: &[T], reason: String) -> Result<Schema, String> {
    let comes_back = |value: &T, codec: Codec| {
        let bytes = encoded(codec, value)?;
        let again: T = codec.decode(&bytes).ok()?;
        (encoded(codec, &again)? == bytes).then_some(())
    };
    let codecs = [Codec::Bincode, Codec::Postcard];
    if values.iter().all(|value| codecs.iter().all(|codec| comes_back(value, *codec).is_some())) {
        Ok(Schema::opaque::<T>())
    } else {
        Err(reason)
    }
}

fn encoded<T: Serialize>(codec: Codec, value: &T) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    codec.encode(value, &mut bytes).ok().map(|()| bytes)
}

/// Passes until everything is known. `None` if the type cannot be traced at all.
fn explore<T: Serialize + DeserializeOwned>() -> Result<Option<(Schema, Vec<T>)>, String> {
    let mut trace = Trace::default();
    let (mut root, mut values) = (Shape::unknown(), Vec::new());
    let key = type_name::<T>();
    for _ in 0..MAX_PASSES {
        if trace.opaque.contains(key) || trace.is_endless {
            return Ok(None);
        }
        let before = trace.explored;
        trace.begin();
        let mut shape = Shape::unknown();
        let result: Result<T, Fault> = trace.seed(&mut shape, std::marker::PhantomData, 0, false);
        if let Some(reason) = trace.unreadable {
            return Err(reason);
        }
        let Ok(value) = result else { continue };
        if !root.merge(shape) {
            return Ok(None);
        }
        values.push(value);
        if trace.explored == before || !trace.has_unexplored(&root, &mut Vec::new()) {
            let types = trace.types.into_iter().map(|traced| traced.named).collect();
            return Ok(Some((Schema { root, types }, values)));
        }
    }
    Ok(None)
}

/// What is known after some passes, and where the present one stands. Types are known by what
/// [`type_name`] calls them.
#[derive(Default)]
struct Trace {
    types: Vec<TracedType>,
    numbers: BTreeMap<&'static str, usize>,
    /// How many sets of made-up values a type has rejected.
    rejected: BTreeMap<&'static str, usize>,
    /// Types that have rejected all sets, or hold one that has.
    opaque: BTreeSet<&'static str>,
    /// Options that cannot be present for that reason.
    hollow: BTreeSet<&'static str>,
    /// How many variants have been explored.
    explored: usize,
    /// A type has no value of finite size.
    is_endless: bool,
    /// Why values cannot be read back.
    unreadable: Option<String>,

    // The present pass.
    /// The cause of its failure has been found.
    is_blamed: bool,
    /// It fails because of an opaque type.
    is_hopeless: bool,
    /// Types around the present place.
    sites: Vec<&'static str>,
    active: Vec<usize>,
    /// Those of them that are there a second time, with the variant chosen.
    smallest: Vec<(usize, Option<usize>)>,
}

struct TracedType {
    named: NamedType,
    is_known: bool,
    /// For an enum: what is known of each variant. As long as its list of names, in which aliases count, until a
    /// number is found to be too high.
    variants: Vec<Exploration>,
    /// The variant that leads to a finite value, as far as is known.
    ending: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Exploration {
    Unseen,
    Seen,
    /// It cannot be made.
    Dead,
}

impl Trace {
    fn begin(&mut self) {
        self.is_blamed = false;
        self.is_hopeless = false;
        self.sites.clear();
        self.active.clear();
        self.smallest.clear();
    }

    /// The set of made-up values to use inside the type `key`.
    fn candidate(&self, key: &str, around: usize) -> usize {
        around.max(self.rejected.get(key).copied().unwrap_or_default()).min(CANDIDATES - 1)
    }

    /// Notes that the type `key` has failed, unless something inside of it has been blamed before. Whether it is
    /// given up.
    fn blame(&mut self, key: &'static str) -> bool {
        if std::mem::replace(&mut self.is_blamed, true) {
            return false;
        }
        let rejected = self.rejected.entry(key).or_default();
        *rejected += 1;
        self.is_hopeless || *rejected >= CANDIDATES
    }

    /// The number of a type and whether it is to be the smallest value; it is inside of itself or of one that is.
    fn enter(&mut self, key: &'static str, name: &str, smallest: bool) -> Result<(usize, bool), Fault> {
        let number = *self.numbers.entry(key).or_insert(self.types.len());
        if number == self.types.len() {
            let named = NamedType { name: name.to_owned(), content: Content::Unit };
            self.types.push(TracedType { named, is_known: false, variants: Vec::new(), ending: 0 });
        }
        let smallest = smallest || self.active.contains(&number);
        if smallest {
            if self.smallest.iter().any(|(other, _)| *other == number) {
                self.try_another_ending();
                return Err(Fault);
            }
            self.smallest.push((number, None));
        }
        self.active.push(number);
        Ok((number, smallest))
    }

    fn leave(&mut self, smallest: bool) {
        self.active.pop();
        if smallest {
            self.smallest.pop();
        }
    }

    /// The variants chosen on the way lead around in a circle: chooses the next ones, as an odometer counts.
    fn try_another_ending(&mut self) {
        if std::mem::replace(&mut self.is_blamed, true) {
            return;
        }
        for (number, choice) in self.smallest.iter().rev() {
            let traced = &mut self.types[*number];
            match choice {
                Some(choice) if choice + 1 < traced.variants.len() => {
                    traced.ending = choice + 1;
                    return;
                }
                Some(_) => traced.ending = 0,
                None => {}
            }
        }
        self.is_endless = true;
    }

    /// The variant of an enum to make.
    fn choose(&self, number: usize, smallest: bool) -> Option<usize> {
        let traced = &self.types[number];
        let alive = |index: &usize| traced.variants[*index] != Exploration::Dead;
        if smallest {
            return (traced.ending..traced.variants.len()).find(alive);
        }
        let unseen = traced.variants.iter().position(|variant| *variant == Exploration::Unseen);
        let leads_on = || {
            let Content::Enum(variants) = &traced.named.content else { return None };
            let mut visited = self.active.clone();
            variants.iter().position(|variant| self.content_has_unexplored(&variant.content, &mut visited))
        };
        unseen
            .or_else(|| leads_on().filter(alive))
            .or_else(|| (traced.ending..traced.variants.len()).find(alive))
            .or_else(|| (0..traced.variants.len()).find(alive))
    }

    /// Notes what a type was seen to hold. `false` if it held something else before.
    fn learn(&mut self, number: usize, content: Content) -> bool {
        let traced = &mut self.types[number];
        if std::mem::replace(&mut traced.is_known, true) {
            return traced.named.content.merge(content);
        }
        traced.named.content = content;
        true
    }

    /// Like [`learn`](Self::learn), of a variant. `names` are the variants with their aliases.
    fn learn_variant(
        &mut self,
        number: usize,
        index: usize,
        content: Content,
        state: Exploration,
        names: &[&str],
    ) -> bool {
        let traced = &mut self.types[number];
        let Content::Enum(variants) = &mut traced.named.content else { return false };
        while variants.len() <= index {
            let name = names.get(variants.len()).copied().unwrap_or_default().into();
            variants.push(Variant { name, content: Content::Newtype(Shape::unknown()) });
        }
        let unknown = Content::Newtype(Shape::unknown());
        let agrees = if variants[index].content == unknown {
            variants[index].content = content;
            true
        } else {
            variants[index].content.merge(content)
        };
        if traced.variants[index] == Exploration::Unseen && state != Exploration::Unseen {
            traced.variants[index] = state;
            self.explored += 1;
        }
        agrees
    }

    fn has_unexplored(&self, shape: &Shape, visited: &mut Vec<usize>) -> bool {
        let Shape::Named(number) = shape else {
            return shape.inner().into_iter().any(|shape| self.has_unexplored(shape, visited));
        };
        if visited.contains(number) {
            return false;
        }
        visited.push(*number);
        let traced = &self.types[*number];
        traced.variants.contains(&Exploration::Unseen)
            || self.content_has_unexplored(&traced.named.content, visited)
    }

    fn content_has_unexplored(&self, content: &Content, visited: &mut Vec<usize>) -> bool {
        content.shapes().into_iter().any(|shape| self.has_unexplored(shape, visited))
    }
}

/// The schema with its types in the order in which they come first, with a name each, and without those that are not
/// used.
fn tidy(mut schema: Schema) -> Schema {
    let mut tidied =
        Tidied { old: std::mem::take(&mut schema.types), numbers: BTreeMap::new(), types: Vec::new() };
    tidied.shape(&mut schema.root);
    Schema { root: schema.root, types: tidied.types }
}

struct Tidied {
    old: Vec<NamedType>,
    numbers: BTreeMap<usize, usize>,
    types: Vec<NamedType>,
}

impl Tidied {
    fn shape(&mut self, shape: &mut Shape) {
        match shape {
            Shape::Named(number) => *number = self.named(*number),
            Shape::Opaque(name) if name.is_empty() => "_".clone_into(name),
            shape => shape.inner_mut().into_iter().for_each(|inner| self.shape(inner)),
        }
    }

    fn named(&mut self, old: usize) -> usize {
        if let Some(number) = self.numbers.get(&old) {
            return *number;
        }
        let number = self.types.len();
        self.numbers.insert(old, number);
        let NamedType { name, mut content } = self.old[old].clone();
        let taken = |name: &str| self.types.iter().any(|named| named.name == name);
        let unique = (2..).map(|n| format!("{name}#{n}")).find(|name| !taken(name));
        let name = if taken(&name) { unique.unwrap_or(name) } else { name };
        self.types.push(NamedType { name, content: Content::Unit });
        content.shapes_mut().into_iter().for_each(|shape| self.shape(shape));
        self.types[number].content = content;
        number
    }
}

/// What an opaque type is called: that of an option by what is inside.
fn opaque_name(key: &str) -> String {
    let short = strip_paths(key);
    match short.strip_prefix("Option<").and_then(|inner| inner.strip_suffix('>')) {
        Some(inner) => inner.to_owned(),
        None => short,
    }
}

/// The type that cannot be read back and why, for the innermost place of a trace.
fn unreadable(sites: &[&str], whole: &str, why: &str) -> String {
    // Types that serde derives, like those of field names, have two underscores.
    let site = sites.iter().rev().find(|site| !site.contains("__")).unwrap_or(&whole);
    format!("{} {why}", strip_paths(site))
}

#[cfg(test)]
mod tests;
