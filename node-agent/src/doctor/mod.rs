//! `weft-agent doctor`: what the agent can do on this host, and what is missing.

mod facts;

use std::fmt::Write as _;

use crate::{
    config::DoctorConfig,
    source::{Program, ProgramState, Source},
};
use facts::Fact;

/// What was found.
#[derive(Debug)]
pub struct Diagnosis {
    facts: Vec<Fact>,
    /// Or why there are none.
    programs: Result<Vec<Program>, String>,
}

/// Looks at the host, and loads, attaches and removes every program.
#[must_use]
pub fn examine<S: Source>(
    config: &DoctorConfig,
    load: impl FnOnce() -> anyhow::Result<S>,
) -> Diagnosis {
    let programs = load().map(|source| {
        let mut programs = source.programs().to_vec();
        programs.push(crate::nat::probe());
        programs
    });
    let programs = programs.map_err(|error| format!("{error:#}").replace('\n', " "));
    Diagnosis { facts: facts::all(config), programs }
}

impl Diagnosis {
    /// Whether the agent can do its main job here.
    #[must_use]
    pub fn is_able(&self) -> bool {
        let missing =
            |program: &Program| program.essential && program.state != ProgramState::Attached;
        self.programs.as_ref().is_ok_and(|programs| !programs.iter().any(missing))
    }

    /// Tables and advice, for a terminal.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let facts = self.facts.iter().map(|fact| vec![fact.name, &fact.value]);
        table(&mut text, facts.collect());
        text.push('\n');
        match &self.programs {
            Ok(programs) => table(&mut text, program_rows(programs)),
            Err(error) => {
                let _ = writeln!(text, "the kernel programs cannot be loaded: {error}");
            }
        }
        let advice = self.advice();
        if !advice.is_empty() {
            text.push('\n');
        }
        for line in advice {
            let _ = writeln!(text, "- {line}");
        }
        let verdict = if self.is_able() {
            "the agent can do its main job on this host"
        } else {
            "the agent CANNOT do its main job on this host"
        };
        let _ = writeln!(text, "\n{verdict}");
        text
    }

    /// One line for each problem.
    fn advice(&self) -> Vec<String> {
        let mut advice: Vec<_> = self
            .facts
            .iter()
            .filter_map(|fact| Some(format!("{}: {}", fact.name, fact.advice.as_ref()?)))
            .collect();
        let programs = self.programs.as_deref().unwrap_or_default();
        for program in programs.iter().filter(|program| program.state == ProgramState::Failed) {
            let (name, without) = (program.name, program.lost_without);
            let rest = if advice.is_empty() {
                "try a newer kernel, or do without"
            } else {
                "see above, or do without"
            };
            advice.push(format!("{name}: {rest} {without}"));
        }
        advice
    }
}

fn program_rows(programs: &[Program]) -> Vec<Vec<&str>> {
    let mut rows = vec![vec!["PROGRAM", "STATE", "WHY", "LOST WITHOUT IT"]];
    rows.extend(programs.iter().map(|program| {
        let state = match program.state {
            ProgramState::Attached => "attached",
            ProgramState::Failed => "failed",
            ProgramState::Off => "off",
        };
        let why = if program.reason.is_empty() { "-" } else { &program.reason };
        vec![program.name, state, why, program.lost_without]
    }));
    rows
}

/// Columns as wide as their widest cell.
fn table(text: &mut String, rows: Vec<Vec<&str>>) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &'static str, state: ProgramState, essential: bool) -> Program {
        let reason = if state == ProgramState::Failed { "no such tracepoint" } else { "" };
        Program { name, state, reason: reason.to_owned(), lost_without: "a thing", essential }
    }

    fn diagnosis(programs: Vec<Program>) -> Diagnosis {
        let fact = Fact { name: "kernel", value: "6.1.0".to_owned(), advice: None };
        Diagnosis { facts: vec![fact], programs: Ok(programs) }
    }

    #[test]
    fn a_program_that_is_missed_costs_only_itself() {
        let diagnosis = diagnosis(vec![
            program("sock_ops", ProgramState::Attached, true),
            program("sched_switch", ProgramState::Failed, false),
        ]);
        assert!(diagnosis.is_able());
        let expected = "kernel  6.1.0\n\
                        \n\
                        PROGRAM       STATE     WHY                 LOST WITHOUT IT\n\
                        sock_ops      attached  -                   a thing\n\
                        sched_switch  failed    no such tracepoint  a thing\n\
                        \n\
                        - sched_switch: try a newer kernel, or do without a thing\n\
                        \n\
                        the agent can do its main job on this host\n";
        assert_eq!(diagnosis.render(), expected);
    }

    #[test]
    fn without_an_essential_program_there_is_no_job() {
        let essential = program("sock_ops", ProgramState::Failed, true);
        assert!(!diagnosis(vec![essential]).is_able());
        let failed = Diagnosis { facts: Vec::new(), programs: Err("not permitted".to_owned()) };
        assert!(!failed.is_able());
        assert!(failed.render().contains("cannot be loaded: not permitted\n"));
    }
}
