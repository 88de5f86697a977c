//! Every sentence of the agent API has a test: `contract.txt` says which, and this says that they are there.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A sentence of the contract, and where it is proved.
struct Promise<'a> {
    line: usize,
    sentence: &'a str,
    /// File and test.
    proofs: Vec<(&'a str, &'a str)>,
}

fn parse(list: &str) -> Result<Vec<Promise<'_>>, String> {
    let mut promises: Vec<Promise<'_>> = Vec::new();
    for (number, line) in list.lines().enumerate() {
        let (line, number) = (line.trim_end(), number + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(sentence) = line.strip_prefix("> ") {
            promises.push(Promise {
                line: number,
                sentence,
                proofs: Vec::new(),
            });
            continue;
        }
        let promise = promises.last_mut();
        match (promise, line.split_once("::")) {
            (Some(promise), Some(proof)) => promise.proofs.push(proof),
            _ => {
                return Err(format!(
                    "line {number} is neither a sentence nor a test: {line}"
                ));
            }
        }
    }
    Ok(promises)
}

/// Names of the tests of a file that run whenever all tests do.
fn tests(source: &str) -> BTreeSet<&str> {
    let mut tests = BTreeSet::new();
    // Attributes since the last line that was none.
    let (mut is_test, mut is_ignored) = (false, false);
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[") {
            is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
            is_ignored |= line.starts_with("#[ignore");
        } else if !line.is_empty() && !line.starts_with("//") {
            let name = line
                .strip_prefix("fn ")
                .or_else(|| line.strip_prefix("async fn "))
                .and_then(|rest| rest.split(['(', '<']).next());
            if let Some(name) = name
                && is_test
                && !is_ignored
            {
                tests.insert(name);
            }
            (is_test, is_ignored) = (false, false);
        }
    }
    tests
}

/// What is wrong with the list, a line each.
fn faults(list: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let promises = match parse(list) {
        Ok(promises) => promises,
        Err(error) => return vec![error],
    };
    let mut faults = Vec::new();
    let mut sentences = BTreeMap::new();
    let mut sources: BTreeMap<&str, Option<String>> = BTreeMap::new();
    for promise in &promises {
        let Promise { line, sentence, .. } = promise;
        if let Some(first) = sentences.insert(sentence, line) {
            faults.push(format!(
                "line {line}: this sentence stands in line {first} too: {sentence}"
            ));
        }
        if promise.proofs.is_empty() {
            faults.push(format!("line {line}: no test proves: {sentence}"));
        }
        for (file, test) in &promise.proofs {
            let source = sources.entry(file).or_insert_with(|| read(file));
            let missing = match source {
                None => "there is no such file",
                Some(source) if tests(source).contains(test) => continue,
                Some(_) => "there is no such test, or it does not always run",
            };
            faults.push(format!("{file}::{test} (line {line}): {missing}"));
        }
    }
    faults
}

#[test]
fn every_sentence_of_the_contract_has_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(root.join(file)).ok();
    let list = read("tests/contract.txt").unwrap();
    assert!(parse(&list).unwrap().len() > 50, "the list is not whole");
    let faults = faults(&list, read);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn a_gap_in_the_list_is_found() {
    let source = "#[test]\n// why\n#[allow(x)]\nfn there() {}\nfn no_test() {}\n\
                  #[test]\n#[ignore = \"x\"]\nfn asleep() {}\n\
                  mod m {\n    #[test]\n    fn inside(a: u8) {}\n}\n";
    let read = |file: &str| (file == "a.rs").then(|| source.to_owned());
    let one = |list: &str| {
        let faults = faults(list, read);
        assert!(faults.len() <= 1, "{faults:?}");
        faults.into_iter().next().unwrap_or_default()
    };
    assert_eq!(
        one("# of\n## A\n\n> It is.\na.rs::there\na.rs::inside\n"),
        ""
    );
    assert!(one("> It is.\n\n> It was.\na.rs::there\n").contains("no test proves: It is."));
    assert!(one("> It is.\na.rs::no_test\n").contains("no such test"));
    assert!(one("> It is.\na.rs::asleep\n").contains("does not always run"));
    assert!(one("> It is.\na.rs::ther\n").contains("no such test"));
    assert!(one("> It is.\nb.rs::there\n").contains("no such file"));
    assert!(one("> It is.\na.rs::there\n> It is.\na.rs::there\n").contains("line 1 too"));
    assert!(one("> It is.\nsomething\n").contains("line 2 is neither"));
    assert!(one("a.rs::there\n").contains("line 1 is neither"));
}
