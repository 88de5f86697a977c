//! JSON of every kind, and documents with one thing changed, for property tests.

use proptest::prelude::*;
use serde_json::{Number, Value};

/// Any JSON, not deep.
pub(crate) fn json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Number::from),
        any::<u64>().prop_map(Number::from),
        (0_u64..70_000).prop_map(Number::from),
        any::<f64>().prop_filter_map("finite", Number::from_f64),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number.prop_map(Value::Number),
        any::<String>().prop_map(Value::String),
        "[0-9a-f:./]{0,20}".prop_map(Value::String),
        Just(Value::String("x".repeat(1000))),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((key(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        Just("ports".to_owned()),
        Just("ranges".to_owned()),
        Just("from".to_owned()),
        Just("to".to_owned()),
        Just("ipv4Address".to_owned()),
    ]
}

/// What is done to one place of a document.
#[derive(Clone, Debug)]
enum Change {
    Replace(Value),
    Remove,
    Add(String, Value),
}

/// A document with up to three places changed.
pub(crate) fn changed(document: Value) -> impl Strategy<Value = Value> {
    let change = prop_oneof![
        3 => json().prop_map(Change::Replace),
        1 => Just(Change::Remove),
        1 => (any::<String>(), json()).prop_map(|(key, value)| Change::Add(key, value)),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), change), 1..=3).prop_map(move |changes| {
        let mut changed = document.clone();
        for (place, change) in changes {
            let mut left = place.index(places(&changed));
            apply(&mut changed, &mut left, &change);
        }
        changed
    })
}

/// Bytes of a document with some of them replaced, or cut.
pub(crate) fn damaged(document: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = document.len();
    let damage = prop::collection::vec((0..length, any::<u8>()), 0..4);
    (damage, 0..=length).prop_map(move |(damage, end)| {
        let mut damaged = document.clone();
        for (at, byte) in damage {
            damaged[at] = byte;
        }
        // Every other one stays whole.
        if end % 2 == 0 {
            damaged.truncate(end);
        }
        damaged
    })
}

fn places(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(places).sum(),
        Value::Object(fields) => fields.values().map(places).sum(),
        _ => 0,
    }
}

/// Changes the place that `left` counts down to; whether it is done.
fn apply(value: &mut Value, left: &mut usize, change: &Change) -> bool {
    if *left == 0 {
        match (change, &mut *value) {
            (Change::Replace(new), _) => *value = new.clone(),
            (Change::Remove, _) => *value = Value::Null,
            (Change::Add(key, new), Value::Object(fields)) => {
                fields.insert(key.clone(), new.clone());
            }
            (Change::Add(_, new), Value::Array(list)) => list.push(new.clone()),
            (Change::Add(_, new), _) => *value = new.clone(),
        }
        return true;
    }
    *left -= 1;
    match value {
        Value::Array(list) => list.iter_mut().any(|item| apply(item, left, change)),
        Value::Object(fields) => {
            if let Change::Remove = change
                && *left < fields.len()
                && let Some(key) = fields.keys().nth(*left).cloned()
            {
                fields.remove(&key);
                return true;
            }
            fields.values_mut().any(|field| apply(field, left, change))
        }
        _ => false,
    }
}
