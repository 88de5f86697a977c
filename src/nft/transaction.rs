//! Changes as the messages of one transaction, each with the name that errors call it by.

use nftnl::MsgType;

use super::decode;
use super::expr::Verdict;
use super::map::{self, Map};
use super::message::{Message, SetElement, Value};
use super::table::{self, DscpChain, MarkBits};
use crate::flow::{Family, Match, Way};
use crate::ruleset::{Changes, Element, Limit, Part};

/// A message and what errors call it.
pub(super) type Step = (MsgType, Message, Part);

/// The steps that make these changes in one table, in the only order in which the kernel takes them.
pub(super) fn steps(changes: &Changes, bits: MarkBits) -> Vec<Step> {
    let mut steps = Vec::new();
    if changes.replace {
        steps.extend(clear());
    }
    if changes.create {
        steps.extend(additions(table::create(bits)));
    }
    for dscp in &changes.add_dscps {
        steps.extend(additions(table::add_dscp(*dscp, bits)));
    }
    for limit in &changes.add_limits {
        let messages = table::add_limit(limit).into_iter();
        let part = Part::AddLimit(limit.session.clone());
        steps.extend(messages.map(|message| (MsgType::Add, message, part.clone())));
    }
    // Removals first: what takes their place may overlap them.
    for (matches, session) in &changes.delete {
        let map = Map::of(matches);
        let elements = vec![key_of(map, matches)];
        let message = Message::Elements {
            set: map.name(),
            elements,
        };
        steps.push((MsgType::Del, message, Part::Delete(session.clone())));
    }
    steps.extend(add_elements(&changes.update));
    steps.extend(add_elements(&changes.add));
    for (verb, devices) in [
        (MsgType::Add, &changes.add_devices),
        (MsgType::Del, &changes.delete_devices),
    ] {
        for device in devices {
            let elements = vec![SetElement {
                key: map::octets(*device),
                ..SetElement::default()
            }];
            let set = map::devices(Family::of(*device));
            steps.push(structure(verb, Message::Elements { set, elements }));
        }
    }
    for hook in &changes.delete_hooks {
        let message = table::delete_hook(hook);
        steps.push((MsgType::Del, message, Part::DeleteHook(hook.clone())));
    }
    for (hook, index) in &changes.add_hooks {
        // A chain that is refused takes its rules with it.
        let messages = table::add_hook(hook, *index, bits).into_iter();
        steps.extend(messages.map(|message| (MsgType::Add, message, Part::AddHook(hook.clone()))));
    }
    for limit in &changes.delete_limits {
        let message = table::delete_limit(limit);
        steps.push((MsgType::Del, message, Part::DeleteLimit(limit.clone())));
    }
    steps
}

/// Removes a table. It is added first, so that this succeeds whether or not it is there.
pub(super) fn clear() -> Vec<Step> {
    [MsgType::Add, MsgType::Del]
        .map(|verb| {
            let comment = String::new();
            structure(verb, Message::Table { comment })
        })
        .to_vec()
}

fn additions(messages: Vec<Message>) -> impl Iterator<Item = Step> {
    messages
        .into_iter()
        .map(|message| structure(MsgType::Add, message))
}

fn structure(verb: MsgType, message: Message) -> Step {
    let part = Part::Structure(describe(verb, &message));
    (verb, message, part)
}

/// One message per session and map.
fn add_elements(elements: &[Element]) -> Vec<Step> {
    let mut steps = Vec::new();
    for session in elements.chunk_by(|a, b| a.session == b.session) {
        for map in Map::all() {
            let mut mine = session
                .iter()
                .filter(|e| Map::of(&e.matches) == map)
                .peekable();
            let Some(first) = mine.peek() else { continue };
            let part = Part::Add(first.session.clone());
            let elements = mine.map(|element| set_element(map, element)).collect();
            steps.push((
                MsgType::Add,
                Message::Elements {
                    set: map.name(),
                    elements,
                },
                part,
            ));
        }
    }
    steps
}

fn key_of(map: Map, matches: &Match) -> SetElement {
    let (key, end) = map::encode(matches);
    let key_end = (map.kind != map::Kind::Whole).then_some(end);
    SetElement {
        key,
        key_end,
        ..SetElement::default()
    }
}

fn set_element(map: Map, element: &Element) -> SetElement {
    let mut counters = element.counters;
    if element.matches.way == Way::Down {
        // What reading takes off is put back on.
        let headers = counters.packets.saturating_mul(decode::ETHERNET_HEADER);
        counters.bytes = counters.bytes.saturating_add(headers);
    }
    let chain = match Limit::of(&element.session, element.matches.way, element.treatment) {
        Some(limit) => limit.chain(),
        None => DscpChain::name(element.treatment.dscp),
    };
    let millis = u64::try_from(element.timeout.as_millis()).unwrap_or(u64::MAX);
    SetElement {
        value: Some(Value::Verdict(Verdict::Goto(chain))),
        // Zero would mean for ever.
        timeout_millis: Some(millis.max(1)),
        counters: Some(counters),
        comment: Some(element.session.to_string()),
        ..key_of(map, &element.matches)
    }
}

fn describe(verb: MsgType, message: &Message) -> String {
    let verb = match verb {
        MsgType::Add => "adding",
        MsgType::Del => "removing",
    };
    match message {
        Message::Table { .. } => format!("{verb} the table"),
        Message::Set(set) => format!("{verb} set {}", set.name),
        Message::Chain { name, .. } => format!("{verb} chain {name}"),
        Message::Rule { chain, .. } => format!("{verb} a rule of chain {chain}"),
        Message::Elements { set, .. } => format!("{verb} elements of {set}"),
    }
}
