//! What a random program is made of.

use proptest::prelude::*;
use tidegate_state::Result;

use crate::content::{KEYS, Model};
use crate::fault::{Fault, fault};
use crate::operator::{Operator, SLOTS, WINDOWS};

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The current key changes.
    Key(u8),
    Change(Change),
    /// Everything is read and compared.
    Check,
    PopDue(i8),
    /// Visits all keys of each state and changes what is there.
    Visit,
    /// Time passes, in both clocks.
    Pass(u8),
    /// Looks for what has expired.
    Sweep(u8),
    /// Writes what has become quiet to the store, in so many steps.
    WriteBack(u8),
    Prefetch,
    Freeze {
        canonical: bool,
    },
    Write(usize),
    WriteBeside(usize),
    Join,
    Abort(usize),
    Complete(usize),
    /// Goes back to the completed checkpoint, or to any other one, at this parallelism and on this backend.
    Restore {
        which: Option<usize>,
        parallelism: u32,
        backend: usize,
    },
    Fault(Fault),
}

/// A change of the state of the current key.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Set(u16),
    Add(u16),
    ClearValue,
    Push(u8),
    Replace(Vec<u8>),
    ClearList,
    Insert(i8, u16),
    AddAt(i8),
    Remove(i8),
    ClearMap,
    AddToSum(u16),
    ClearSum,
    AddToMean(u16),
    ClearMean,
    SetIn(i8, Option<u16>),
    Register(i8),
    Delete(i8),
    FadingSet(u16),
    FadingAdd(u16),
    FadingPush(u8),
    FadingReplace(Vec<u8>),
    FadingInsert(i8, u16),
    FadingAddAt(i8),
    FadingRemove(i8),
    FadingSum(u16),
    ClearFading,
}

fn change() -> impl Strategy<Value = Change> {
    let few = || proptest::collection::vec(any::<u8>(), 0..3);
    let common = prop_oneof![
        2 => any::<u16>().prop_map(Change::Set),
        3 => any::<u16>().prop_map(Change::Add),
        1 => Just(Change::ClearValue),
        3 => any::<u8>().prop_map(Change::Push),
        1 => few().prop_map(Change::Replace),
        1 => Just(Change::ClearList),
        3 => (SLOTS, any::<u16>()).prop_map(|(k, v)| Change::Insert(k, v)),
        2 => SLOTS.prop_map(Change::AddAt),
        2 => SLOTS.prop_map(Change::Remove),
        1 => Just(Change::ClearMap),
        3 => SLOTS.prop_map(Change::Register),
        1 => SLOTS.prop_map(Change::Delete),
    ];
    let others = prop_oneof![
        3 => any::<u16>().prop_map(Change::AddToSum),
        1 => Just(Change::ClearSum),
        3 => any::<u16>().prop_map(Change::AddToMean),
        1 => Just(Change::ClearMean),
        3 => (WINDOWS, proptest::option::weighted(0.7, any::<u16>())).prop_map(|(w, v)| Change::SetIn(w, v)),
    ];
    let fading = prop_oneof![
        2 => any::<u16>().prop_map(Change::FadingSet),
        2 => any::<u16>().prop_map(Change::FadingAdd),
        3 => any::<u8>().prop_map(Change::FadingPush),
        1 => few().prop_map(Change::FadingReplace),
        3 => (SLOTS, any::<u16>()).prop_map(|(k, v)| Change::FadingInsert(k, v)),
        2 => SLOTS.prop_map(Change::FadingAddAt),
        1 => SLOTS.prop_map(Change::FadingRemove),
        2 => any::<u16>().prop_map(Change::FadingSum),
        1 => Just(Change::ClearFading),
    ];
    prop_oneof![5 => common, 3 => others, 4 => fading]
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let which = any::<usize>;
    let parallelism = prop_oneof![3 => 1u32..=2, 1 => 3u32..=8];
    let restore = (proptest::option::weighted(0.3, which()), parallelism, which());
    prop_oneof![
        8 => (0..KEYS).prop_map(Step::Key),
        24 => change().prop_map(Step::Change),
        1 => Just(Step::Check),
        1 => SLOTS.prop_map(Step::PopDue),
        1 => Just(Step::Visit),
        3 => (0u8..7).prop_map(Step::Pass),
        1 => (1u8..20).prop_map(Step::Sweep),
        3 => (1u8..30).prop_map(Step::WriteBack),
        1 => Just(Step::Prefetch),
        2 => Just(Step::Freeze { canonical: false }),
        1 => Just(Step::Freeze { canonical: true }),
        2 => which().prop_map(Step::Write),
        1 => which().prop_map(Step::WriteBeside),
        1 => Just(Step::Join),
        1 => which().prop_map(Step::Abort),
        2 => which().prop_map(Step::Complete),
        1 => restore.prop_map(|(which, parallelism, backend)| Step::Restore { which, parallelism, backend }),
        1 => fault().prop_map(Step::Fault),
    ]
}

impl Change {
    /// Does the same to the state and to the model.
    pub(crate) fn apply(self, key: u8, operator: &mut Operator, model: &mut Model) -> Result<()> {
        let (watermark, running) = (model.watermark, model.running);
        let (s, content) = (operator.at(key)?, model.at(key));
        match self {
            Self::Set(v) => {
                content.value = Some(v);
                s.value.set(v)
            }
            Self::Add(v) => {
                content.value = Some(content.value.unwrap_or(7).wrapping_add(v));
                let sum = s.value.update(
                    || 7,
                    |n| {
                        *n = n.wrapping_add(v);
                        *n
                    },
                )?;
                assert_eq!(Some(sum), content.value);
                Ok(())
            }
            Self::ClearValue => {
                content.value = None;
                s.value.clear()
            }
            Self::Push(v) => {
                content.list.push(v);
                s.list.push(v)
            }
            Self::Replace(items) => {
                content.list.clone_from(&items);
                s.list.replace(items)
            }
            Self::ClearList => {
                content.list.clear();
                s.list.clear()
            }
            Self::Insert(k, v) => {
                content.map.insert(k, v);
                s.map.insert(k, v)
            }
            Self::AddAt(k) => {
                let v = content.map.entry(k).or_insert(3);
                *v = v.wrapping_add(1);
                s.map.update(k, || 3, |v| *v = v.wrapping_add(1))
            }
            Self::Remove(k) => {
                content.map.remove(&k);
                s.map.remove(&k)
            }
            Self::ClearMap => {
                content.map.clear();
                s.map.clear()
            }
            Self::AddToSum(v) => {
                *content.sum.get_or_insert(0) += u64::from(v);
                s.sum.add(v.into())
            }
            Self::ClearSum => {
                content.sum = None;
                s.sum.clear()
            }
            Self::AddToMean(v) => {
                let mean = content.mean.get_or_insert((0, 0));
                *mean = (mean.0 + u64::from(v), mean.1 + 1);
                s.add_to_mean(v)
            }
            Self::ClearMean => {
                content.mean = None;
                s.clear_mean()
            }
            Self::SetIn(window, value) => {
                match value {
                    Some(value) => _ = content.windows.insert(window, value),
                    None => _ = content.windows.remove(&window),
                }
                s.set_in(window, value)
            }
            Self::Register(time) => {
                content.timers.insert(time.into());
                s.timers.register(time.into())
            }
            Self::Delete(time) => {
                content.timers.remove(&i64::from(time));
                s.timers.delete(time.into())
            }
            Self::FadingSet(v) => {
                content.fading_value = Some((v, watermark));
                s.fading_value.set(v)
            }
            Self::FadingAdd(v) => {
                let old = content.fading_value.map_or(7, |(old, _)| old);
                content.fading_value = Some((old.wrapping_add(v), watermark));
                s.fading_value.update(|| 7, |n| *n = n.wrapping_add(v))
            }
            Self::FadingPush(v) => {
                content.fading_list.push((v, running));
                s.fading_list.push(v)
            }
            Self::FadingReplace(items) => {
                content.fading_list = items.iter().map(|item| (*item, running)).collect();
                s.fading_list.replace(items)
            }
            Self::FadingInsert(k, v) => {
                content.fading_map.insert(k, (v, watermark));
                s.fading_map.insert(k, v)
            }
            Self::FadingAddAt(k) => {
                let old = content.fading_map.get(&k).map_or(3, |(old, _)| *old);
                content.fading_map.insert(k, (old.wrapping_add(1), watermark));
                s.fading_map.update(k, || 3, |v| *v = v.wrapping_add(1))
            }
            Self::FadingRemove(k) => {
                content.fading_map.remove(&k);
                s.fading_map.remove(&k)
            }
            Self::FadingSum(v) => {
                let old = content.fading_sum.map_or(0, |(old, _)| old);
                content.fading_sum = Some((old + u64::from(v), running));
                s.fading_sum.add(v.into())
            }
            Self::ClearFading => {
                content.fading_value = None;
                content.fading_list.clear();
                content.fading_map.clear();
                content.fading_sum = None;
                s.fading_value.clear()?;
                s.fading_list.clear()?;
                s.fading_map.clear()?;
                s.fading_sum.clear()
            }
        }
    }
}
