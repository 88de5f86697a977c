//! Facts to lines. No I/O.

mod kernel;
mod site;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::facts::{Ability, Facts};
use super::line::{Grade, Line};
use crate::nft::Flowtable;

/// 2026-01-01, before which this program was not built: a clock that shows less is not set.
const BUILT_AFTER: Duration = Duration::from_secs(1_767_225_600);

/// All lines, the last of which is the result.
pub(super) fn lines(facts: &Facts) -> Vec<Line> {
    let mut lines = kernel::lines(facts);
    match &facts.site {
        Ok(site) => lines.extend(site::lines(site)),
        Err(error) => lines.push(Line::fail("configuration", error)),
    }
    lines.push(offload(&facts.flowtables));
    lines.push(clock(facts));
    lines.push(match &facts.agent {
        Ok(true) => Line::ok("agent", "one runs here; qod-agent status asks it"),
        Ok(false) => Line::ok("agent", "none runs here"),
        Err(error) => Line::warn("agent", format!("not known: {error}")),
    });
    lines.push(result(facts, &lines));
    lines
}

fn offload(flowtables: &Result<Vec<Flowtable>, String>) -> Line {
    const WHAT: &str = "flow offload";
    let all = match flowtables {
        Ok(all) => all,
        Err(error) => return Line::warn(WHAT, format!("not known: {error}")),
    };
    if let Some(trouble) = Flowtable::hardware_trouble(all) {
        return Line::warn(WHAT, trouble);
    }
    match all.first() {
        None => Line::ok(WHAT, "none"),
        Some(flowtable) => Line::ok(
            WHAT,
            format!("in software ({flowtable}): its flows are marked too"),
        ),
    }
}

fn clock(facts: &Facts) -> Line {
    const WHAT: &str = "clock";
    if facts.time >= BUILT_AFTER {
        return Line::ok(WHAT, "plausible");
    }
    let text = "shows a time before 2026: set it (NTP), or certificates seem not yet valid";
    // Only then does the agent have to wait for it.
    match &facts.site {
        Ok(site) if site.tls => Line::fail(WHAT, text),
        _ => Line::warn(WHAT, text),
    }
}

fn result(facts: &Facts, lines: &[Line]) -> Line {
    const WHAT: &str = "result";
    let kernel = &facts.abilities;
    let mut needed = [
        &kernel.nf_tables,
        &kernel.maps,
        &kernel.ingress,
        &kernel.egress,
    ]
    .into_iter();
    if lines.iter().any(|line| line.grade == Grade::Fail) {
        let text = "the agent cannot do its job here: see the lines that begin with FAIL";
        Line::fail(WHAT, text)
    } else if needed.any(|ability| matches!(ability, Ability::Untried(_))) {
        Line::fail(
            WHAT,
            "not known: what marks need of the kernel could not be tried",
        )
    } else {
        Line::ok(WHAT, "the agent can do its job here")
    }
}
