//! Reads a script from the YAML values of a file.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::payload::Order;
use super::{
    Config, Engine, Expected, FILE_BYTES, LONGEST, LOOPS, Load, MAX_RATE, Measure, Method, Netem, Overrides, Pacing,
    Payload, Phase, Recording, STEPS, Scenario, Script, Span, Step, Template, Times, Variables,
};
use crate::bench::ensure::Condition;
use crate::yaml::{Entry, Kind, Node, Place, unknown};

const ENVIRONMENTS: usize = 16;
const PHASES: usize = 1_000;
const SCENARIOS: usize = 256;
const PAYLOADS: usize = 16;
const MAX_WEIGHT: u32 = 1_000_000;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longer delays are unrealistic: probably milliseconds without a unit.
const NETEM_LONGEST: Duration = Duration::from_secs(10);
/// Larger integers are not exact in every language.
const MAX_COUNT: u64 = 1 << 53;
const MAX_SPEED: f64 = 1_000.0;

const NO_JAVASCRIPT: &str = "no JavaScript is run here: values come from config.variables, config.payload and places \
                             such as {{ $randomString(10) }}, and what needs more is a program with rtcade::client";
/// Keys of Artillery that are not supported, and the alternatives.
const REFUSED: [(&str, &str); 14] = [
    ("processor", NO_JAVASCRIPT),
    ("function", NO_JAVASCRIPT),
    ("beforeRequest", NO_JAVASCRIPT),
    ("afterResponse", NO_JAVASCRIPT),
    ("beforeScenario", NO_JAVASCRIPT),
    ("afterScenario", NO_JAVASCRIPT),
    ("onError", NO_JAVASCRIPT),
    ("ifTrue", NO_JAVASCRIPT),
    ("whileTrue", "no JavaScript is run here: a loop ends by count, over or duration"),
    ("before", "there are no steps before all users: prepare the server, or put them into a scenario"),
    ("after", "there are no steps after all users: put them into a scenario"),
    ("capture", "answers are not captured: use config.payload for the data of users"),
    ("match", "answers are not compared: use config.ensure for checks at the end"),
    ("connect", "users connect to config.target when they come, and with join where the engine is rtc"),
];

const CONFIG_KEYS: [&str; 11] =
    ["target", "environments", "phases", "payload", "variables", "plugins", "ensure", "http", "timeout", "rtc", "tls"];
const ENGINES: [Engine; 4] = [Engine::Rtc, Engine::Ws, Engine::Http, Engine::Geckos];
/// Steps, their further keys, and the engines that support them.
const STEP_KEYS: [(&str, &[&str], &[Engine]); 12] = [
    ("think", &[], &ENGINES),
    ("log", &[], &ENGINES),
    ("loop", &["count", "over", "duration", "loopElement", "pacing", "every"], &ENGINES),
    ("join", &[], &[Engine::Rtc]),
    ("send", &["measure"], &[Engine::Rtc, Engine::Ws, Engine::Geckos]),
    ("command", &["measure"], &[Engine::Rtc]),
    ("expect", &["within"], &[Engine::Rtc, Engine::Ws, Engine::Geckos]),
    ("reconnect", &[], &[Engine::Rtc, Engine::Ws, Engine::Geckos]),
    ("leave", &[], &[Engine::Rtc, Engine::Ws, Engine::Geckos]),
    ("get", &[], &[Engine::Http]),
    ("post", &[], &[Engine::Http]),
    ("replay", &["speed", "measure"], &[Engine::Rtc]),
];
const PERCENTILES: [&str; 9] = ["min", "max", "median", "p50", "p75", "p90", "p95", "p99", "p999"];
/// Prefixes of environment variables of the process.
const PROCESS: [&str; 3] = ["$environment.", "$env.", "$processEnvironment."];

pub(super) fn script(text: &str, overrides: &Overrides) -> Result<Script, String> {
    let mut root = document(text, None)?;
    if let Some(json) = &overrides.file {
        let over = document(json, Some("--overrides"))?;
        if !matches!(over.kind, Kind::Map(_)) {
            return Err(over.unexpected("a map"));
        }
        root.merge(over);
    }
    let top = Fields::of(&root, &["config", "scenarios"])?;
    let mut config = top.need("config")?.clone();
    let scenarios = top.need("scenarios")?;
    let environments = Fields::of(top.need("config")?, &CONFIG_KEYS)?.get("environments");
    let environments = environments.map(map).transpose()?.unwrap_or_default();
    let scenarios = list(scenarios, SCENARIOS)?;
    if environments.len() > ENVIRONMENTS {
        return Err(environments[0].place.mistake(format!("there may be at most {ENVIRONMENTS} environments")));
    }
    for environment in environments {
        // Errors in other environments than the chosen one count too.
        Fields::of(&environment.value, &CONFIG_KEYS)?;
        let mut merged = config.clone();
        merged.merge(environment.value.clone());
        Reader::new(overrides, false).config(&merged, scenarios)?;
    }
    let names: Vec<&str> = environments.iter().map(|environment| environment.key.as_str()).collect();
    if let Some(name) = &overrides.environment {
        let chosen = environments.iter().find(|environment| environment.key == *name);
        let chosen = chosen.ok_or_else(|| unknown("environment", name, &names))?.value.clone();
        config.merge(chosen);
    } else if !environments.is_empty() && Fields::of(&config, &CONFIG_KEYS)?.get("phases").is_none() {
        return Err(
            config.mistake(format!("there are no phases: choose an environment with -e ({})", names.join(", ")))
        );
    }
    let mut reader = Reader::new(overrides, true);
    let mut config = reader.config(&config, scenarios)?;
    reader.names.extend(config.variables.keys().cloned());
    reader.names.extend(config.payloads.iter().flat_map(|payload| payload.fields.clone()));
    reader.variables.clone_from(&config.variables);
    reader.timeout = config.timeout;
    let mut read: Vec<Scenario> = Vec::with_capacity(scenarios.len());
    for (number, node) in (1..).zip(scenarios) {
        let scenario = reader.scenario(number, node)?;
        if read.iter().any(|other| other.name == scenario.name) {
            return Err(node.mistake(format!("the name {:?} is used twice", scenario.name)));
        }
        read.push(scenario);
    }
    if let Some(name) = &overrides.scenario {
        let names: Vec<&str> = read.iter().map(|scenario| scenario.name.as_str()).collect();
        let Some(index) = names.iter().position(|one| one == name) else {
            return Err(unknown("scenario", name, &names));
        };
        read = vec![read.swap_remove(index)];
    }
    if read.iter().all(|scenario| scenario.weight == 0) {
        return Err(top.place.mistake("no scenario has a weight above 0"));
    }
    config.variables.extend(reader.constants);
    Ok(Script { config, scenarios: read })
}

fn document(text: &str, name: Option<&'static str>) -> Result<Node, String> {
    if text.len() > FILE_BYTES {
        let name = name.unwrap_or("it");
        return Err(format!("{name} exceeds the limit of {FILE_BYTES} bytes"));
    }
    Node::parse(text, name)
}

struct Reader<'a> {
    overrides: &'a Overrides,
    /// Whether this scenario will run, so that the environment variables it names must exist.
    is_chosen: bool,
    /// The names that templates may use.
    names: Vec<String>,
    variables: BTreeMap<String, Vec<Value>>,
    /// The environment variables that they used.
    constants: BTreeMap<String, Vec<Value>>,
    timeout: Duration,
    steps: usize,
    has_joined: bool,
}

impl<'a> Reader<'a> {
    fn new(overrides: &'a Overrides, is_chosen: bool) -> Reader<'a> {
        Reader {
            overrides,
            is_chosen,
            names: Vec::new(),
            variables: BTreeMap::new(),
            constants: BTreeMap::new(),
            timeout: TIMEOUT,
            steps: 0,
            has_joined: false,
        }
    }

    fn config(&mut self, node: &Node, scenarios: &[Node]) -> Result<Config, String> {
        let fields = Fields::of(node, &CONFIG_KEYS)?;
        let target = fields.get("target").map(|node| self.constant(node)).transpose()?;
        let phases = match fields.get("phases") {
            Some(node) => list(node, PHASES)?.iter().map(phase).collect::<Result<Vec<_>, String>>()?,
            None if self.is_chosen => return Err(node.mistake("phases are missing")),
            None => Vec::new(),
        };
        let mut timeout = fields.get("timeout").map(duration).transpose()?;
        if let Some(node) = fields.get("http") {
            let own = Fields::of(node, &["timeout"])?.get("timeout").map(duration).transpose()?;
            timeout = own.or(timeout);
        }
        let mut netem = Netem::default();
        if let Some(node) = fields.get("rtc")
            && let Some(node) = Fields::of(node, &["netem"])?.get("netem")
        {
            netem = self::netem(node)?;
        }
        let rejects = match fields.get("tls") {
            Some(node) => Fields::of(node, &["rejectUnauthorized"])?.get("rejectUnauthorized").map(flag).transpose()?,
            None => None,
        };
        let shorthand = if has_http(scenarios) { "http.response_time" } else { "rtc.echo" };
        let mut ensure = Vec::new();
        if let Some(node) = fields.get("ensure") {
            self::ensure(node, shorthand, &mut ensure)?;
        }
        if let Some(node) = fields.get("plugins")
            && let Some(node) = plugins(node)?
        {
            self::ensure(node, shorthand, &mut ensure)?;
        }
        Ok(Config {
            target: self.overrides.target.clone().or(target),
            phases,
            payloads: self.payloads(fields.get("payload"))?,
            variables: self.variables(fields.get("variables"))?,
            ensure,
            netem,
            insecure: rejects == Some(false),
            timeout: timeout.unwrap_or(TIMEOUT),
        })
    }

    fn payloads(&self, node: Option<&Node>) -> Result<Vec<Payload>, String> {
        let mut payloads = match node {
            Some(node @ Node { kind: Kind::List(_), .. }) => {
                list(node, PAYLOADS)?.iter().map(payload).collect::<Result<Vec<_>, String>>()?
            }
            Some(node) => vec![payload(node)?],
            None => Vec::new(),
        };
        if let Some(path) = &self.overrides.payload {
            let [payload] = payloads.as_mut_slice() else {
                return Err(format!("-p replaces the payload of a file with exactly one; this has {}", payloads.len()));
            };
            payload.path.clone_from(path);
        }
        Ok(payloads)
    }

    fn variables(&self, node: Option<&Node>) -> Result<BTreeMap<String, Vec<Value>>, String> {
        let given = self.overrides.variables.as_ref().map(|json| document(json, Some("-v"))).transpose()?;
        let mut variables = BTreeMap::new();
        for node in [node, given.as_ref()].into_iter().flatten() {
            for Entry { place, key, value } in map(node)? {
                if !Template::parse(&format!("{{{{ {key} }}}}")).is_ok_and(|template| template.names().eq([key])) {
                    return Err(place.mistake(format!("{key:?} can't be a variable's name")));
                }
                let values = match value.to_json(&mut |_, _| Ok(()))? {
                    Value::Array(values) if values.is_empty() => {
                        return Err(value.mistake("the list is empty: each user gets one of its values"));
                    }
                    Value::Array(values) => values,
                    value => vec![value],
                };
                variables.insert(key.clone(), values);
            }
        }
        Ok(variables)
    }

    fn scenario(&mut self, number: usize, node: &Node) -> Result<Scenario, String> {
        let fields = Fields::of(node, &["name", "weight", "engine", "flow"])?;
        let name = fields.get("name").map(|node| text(node).map(str::to_owned)).transpose()?;
        let weight = fields.get("weight").map(|node| whole(node, 0, MAX_WEIGHT)).transpose()?;
        let names = ENGINES.map(Engine::name);
        let engine = match fields.get("engine") {
            Some(node) => ENGINES[choice(node, "engine", &names)?],
            None => Engine::Rtc,
        };
        let flow = fields.need("flow")?;
        self.has_joined = false;
        Ok(Scenario {
            name: name.unwrap_or_else(|| format!("scenario {number}")),
            weight: weight.unwrap_or(1),
            engine,
            flow: self.steps(flow, engine, 0)?,
        })
    }

    fn steps(&mut self, node: &Node, engine: Engine, depth: usize) -> Result<Vec<Step>, String> {
        if depth > LOOPS {
            return Err(node.mistake(format!("loops may be nested at most {LOOPS} deep")));
        }
        list(node, STEPS)?.iter().map(|node| self.step(node, engine, depth)).collect()
    }

    fn step(&mut self, node: &Node, engine: Engine, depth: usize) -> Result<Step, String> {
        self.steps += 1;
        if self.steps > STEPS {
            return Err(node.mistake(format!("there may be at most {STEPS} steps")));
        }
        let (fields, name) = step_fields(node)?;
        let (_, _, engines) = STEP_KEYS.iter().find(|(key, ..)| *key == name).expect("it was found there");
        if !engines.contains(&engine) {
            let names: Vec<&str> = engines.iter().map(|engine| engine.name()).collect();
            return Err(node.mistake(format!(
                "{name} is a step of engine {}, and this scenario is of {}",
                names.join(", "),
                engine.name()
            )));
        }
        if engine == Engine::Rtc {
            match name {
                "think" | "log" | "loop" => {}
                "join" if self.has_joined => return Err(node.mistake("this user has joined already")),
                "join" => self.has_joined = true,
                _ if !self.has_joined => return Err(node.mistake(format!("{name} needs a join before it"))),
                _ => self.has_joined = name != "leave",
            }
        }
        let nothing = Node { place: node.place, kind: Kind::Null };
        let value = fields.get(name).unwrap_or(&nothing);
        match name {
            "think" => self.span(value).map(Step::Think),
            "log" => self.template(value).map(Step::Log),
            "loop" => self.rounds(node, value, &fields, engine, depth),
            "join" => self.join(value),
            "send" => Ok(Step::Send { value: self.value(value)?, measure: measure(&fields)? }),
            "command" => Ok(Step::Command { value: self.value(value)?, measure: measure(&fields)? }),
            "expect" => {
                let within = fields.get("within").map(duration).transpose()?;
                Ok(Step::Expect { what: self.expected(value, engine)?, within: within.unwrap_or(self.timeout) })
            }
            "replay" => {
                let speed = fields.get("speed").map(|node| number(node, 0.01, MAX_SPEED)).transpose()?;
                let recording = Recording::new(text(value)?.into());
                Ok(Step::Replay { recording, speed: speed.unwrap_or(1.0), measure: measure(&fields)? })
            }
            "get" => self.request(Method::Get, value),
            "post" => self.request(Method::Post, value),
            _ if !matches!(value.kind, Kind::Null | Kind::Bool(true)) => Err(value.unexpected("nothing")),
            "reconnect" => Ok(Step::Reconnect),
            _ => Ok(Step::Leave),
        }
    }

    fn rounds(
        &mut self,
        node: &Node,
        steps: &Node,
        fields: &Fields,
        engine: Engine,
        depth: usize,
    ) -> Result<Step, String> {
        let element = fields.get("loopElement").map(|node| text(node).map(str::to_owned)).transpose()?;
        let element = element.unwrap_or_else(|| "$loopElement".to_owned());
        let times = match (fields.get("count"), fields.get("over"), fields.get("duration")) {
            (Some(count), None, None) => Times::Count(count_of(count)?),
            (None, Some(over), None) => Times::Over { variable: element.clone(), values: self.over(over)? },
            (None, None, Some(node)) => Times::For { duration: duration_above_zero(node)? },
            _ => return Err(node.mistake("a loop needs one of count, over, duration")),
        };
        let fixed = match fields.get("pacing") {
            Some(node) => choice(node, "pacing", &["free", "fixed"])? == 1,
            None => false,
        };
        let pacing = match (fixed, fields.get("every")) {
            (true, Some(every)) => Pacing::Fixed(duration_above_zero(every)?),
            (false, None) => Pacing::Free,
            (true, None) => return Err(node.mistake("pacing: fixed needs \"every\", a duration")),
            (false, Some(every)) => return Err(every.mistake("\"every\" needs pacing: fixed")),
        };
        let names = self.names.len();
        self.names.push("$loopCount".to_owned());
        if matches!(times, Times::Over { .. }) {
            self.names.push(element);
        }
        let steps = self.steps(steps, engine, depth + 1)?;
        self.names.truncate(names);
        Ok(Step::Loop { times, pacing, steps })
    }

    /// Returns the values of a loop: a list, or that of a variable.
    fn over(&mut self, node: &Node) -> Result<Vec<Value>, String> {
        let Kind::Text(name) = &node.kind else {
            list(node, usize::MAX)?;
            let Value::Array(values) = self.value(node)? else { return Err(node.unexpected("a list")) };
            return Ok(values);
        };
        let name = name.trim_start_matches(['{', ' ']).trim_end_matches(['}', ' ']);
        let values = self.variables.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.variables.keys().map(String::as_str).collect();
            node.mistake(unknown("variable", name, &names))
        })?;
        match values.as_slice() {
            [Value::Array(values)] if values.is_empty() => Err(node.mistake("the list is empty")),
            [Value::Array(values)] => Ok(values.clone()),
            values => Ok(values.to_vec()),
        }
    }

    fn join(&mut self, node: &Node) -> Result<Step, String> {
        let fields = match &node.kind {
            Kind::Null => {
                return Ok(Step::Join { room: None, name: None, data: Value::Null, bearer: None });
            }
            Kind::Text(_) => {
                let room = Some(self.template(node)?);
                return Ok(Step::Join { room, name: None, data: Value::Null, bearer: None });
            }
            _ => Fields::of(node, &["room", "name", "data", "bearer"])?,
        };
        let mut template = |name| fields.get(name).map(|node| self.template(node)).transpose();
        let (room, name, bearer) = (template("room")?, template("name")?, template("bearer")?);
        let data = fields.get("data").map(|node| self.value(node)).transpose()?;
        Ok(Step::Join { room, name, data: data.unwrap_or_default(), bearer })
    }

    fn expected(&mut self, node: &Node, engine: Engine) -> Result<Expected, String> {
        let known: &[&str] = if engine == Engine::Rtc { &["state", "event"] } else { &["text"] };
        if let Kind::Text(_) = &node.kind {
            return Ok(match known[choice(node, "thing to expect", known)?] {
                "state" => Expected::State,
                "event" => Expected::Event(None),
                _ => Expected::Text(None),
            });
        }
        let fields = Fields::of(node, known)?;
        match (fields.get("state"), fields.get("event"), fields.get("text")) {
            (Some(node), None, None) if !matches!(node.kind, Kind::Null) => Err(node.unexpected("nothing")),
            (Some(_), None, None) => Ok(Expected::State),
            (None, Some(node), None) => Ok(Expected::Event(Some(self.value(node)?))),
            (None, None, Some(node)) => Ok(Expected::Text(Some(self.template(node)?))),
            _ => Err(node.mistake(format!("expected exactly one of {}", known.join(", ")))),
        }
    }

    fn request(&mut self, method: Method, node: &Node) -> Result<Step, String> {
        if let Kind::Text(_) = &node.kind {
            return Ok(Step::Request { method, url: self.template(node)?, json: None, headers: Vec::new() });
        }
        let known: &[&str] = if method == Method::Get { &["url", "headers"] } else { &["url", "headers", "json"] };
        let fields = Fields::of(node, known)?;
        let url = self.template(fields.need("url")?)?;
        let json = fields.get("json").map(|node| self.value(node)).transpose()?;
        let mut headers = Vec::new();
        if let Some(node) = fields.get("headers") {
            for Entry { place, key, value } in map(node)? {
                let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
                if key.is_empty() || !key.chars().all(is_token) {
                    return Err(place.mistake(format!("{key:?} can't be a header's name")));
                }
                headers.push((key.clone(), self.template(value)?));
            }
        }
        Ok(Step::Request { method, url, json, headers })
    }

    fn span(&mut self, node: &Node) -> Result<Span, String> {
        match &node.kind {
            Kind::Text(text) if text.contains("{{") => self.template(node).map(Span::Filled),
            Kind::Text(text) if text.contains('-') && !text.trim_start().starts_with('-') => {
                let (least, most) = text.split_once('-').expect("it is in there");
                let [least, most] = [least, most].map(|text| duration_of(text).map_err(|error| node.mistake(error)));
                let (least, most) = (least?, most?);
                if least > most {
                    return Err(node.mistake("a range starts with the shorter duration"));
                }
                Ok(Span::Between(least, most))
            }
            _ => duration(node).map(Span::Fixed),
        }
    }

    fn template(&mut self, node: &Node) -> Result<Template, String> {
        let text = match &node.kind {
            Kind::Text(text) => text.clone(),
            Kind::Number(number) => number.to_string(),
            Kind::Bool(value) => value.to_string(),
            _ => return Err(node.unexpected("a text")),
        };
        self.check(node, &text)
    }

    fn value(&mut self, node: &Node) -> Result<Value, String> {
        node.to_json(&mut |node, text| self.check(node, text).map(drop))
    }

    /// Parses a template and checks that its names exist.
    fn check(&mut self, node: &Node, text: &str) -> Result<Template, String> {
        let template = Template::parse(text).map_err(|sentence| node.mistake(sentence))?;
        for name in template.names() {
            if name == "$environment" {
                let environment = self.overrides.environment.clone().unwrap_or_default();
                self.constants.insert(name.to_owned(), vec![environment.into()]);
            } else if let Some(variable) = PROCESS.iter().find_map(|prefix| name.strip_prefix(prefix)) {
                match self.overrides.process.get(variable) {
                    Some(value) => drop(self.constants.insert(name.to_owned(), vec![value.clone().into()])),
                    None if self.is_chosen => {
                        return Err(node.mistake(format!("the process's environment has no {variable}")));
                    }
                    None => {}
                }
            } else {
                let first = name.split('.').next().unwrap_or(name);
                if !self.names.iter().any(|known| known == name || known == first) {
                    let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
                    return Err(node.mistake(unknown("variable", name, &names)));
                }
            }
        }
        Ok(template)
    }

    /// Returns a text that is the same for all users.
    fn constant(&mut self, node: &Node) -> Result<String, String> {
        let known = std::mem::take(&mut self.names);
        let template = text(node).and_then(|text| self.check(node, text));
        self.names = known;
        let template = template?;
        if template.is_drawn() {
            return Err(node.mistake("it must be the same for all users: only environment variables are allowed"));
        }
        let mut variables = Variables::new(ChaCha8Rng::seed_from_u64(0));
        for (name, values) in &self.constants {
            variables.set(name, values[0].clone());
        }
        Ok(variables.fill(&template))
    }
}

/// The entries of a map whose keys are all known.
struct Fields<'a> {
    place: Place,
    entries: &'a [Entry],
}

impl<'a> Fields<'a> {
    fn of(node: &'a Node, known: &[&str]) -> Result<Fields<'a>, String> {
        let entries = map(node)?;
        for entry in entries {
            check_key(entry, "key", known)?;
        }
        Ok(Fields { place: node.place, entries })
    }

    fn get(&self, key: &str) -> Option<&'a Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    fn need(&self, key: &str) -> Result<&'a Node, String> {
        self.get(key).ok_or_else(|| self.place.mistake(format!("{key:?} is missing")))
    }
}

fn check_key(entry: &Entry, what: &str, known: &[&str]) -> Result<(), String> {
    if known.contains(&entry.key.as_str()) {
        return Ok(());
    }
    let refused = REFUSED.iter().find(|(key, _)| *key == entry.key);
    Err(entry.place.mistake(match refused {
        Some((key, sentence)) => format!("there is no {what} {key:?}: {sentence}"),
        None => unknown(what, &entry.key, known),
    }))
}

/// Returns the fields and the name of a step. The name alone suffices for a step without a value.
fn step_fields(node: &Node) -> Result<(Fields<'_>, &'static str), String> {
    let names = STEP_KEYS.map(|(name, ..)| name);
    if let Kind::Text(_) = &node.kind {
        let name = names[choice(node, "step", &names)?];
        return Ok((Fields { place: node.place, entries: &[] }, name));
    }
    let entries = map(node)?;
    let mut found = STEP_KEYS.iter().filter(|(name, ..)| entries.iter().any(|entry| entry.key == *name));
    match (found.next(), found.next()) {
        (Some((name, beside, _)), None) => {
            let known: Vec<&str> = [*name].iter().chain(*beside).copied().collect();
            Ok((Fields::of(node, &known)?, name))
        }
        (Some((one, ..)), Some((other, ..))) => {
            Err(node.mistake(format!("{one} and {other} are two steps: each begins with a \"-\" of its own")))
        }
        (None, _) => match entries.first() {
            Some(entry) => Err(check_key(entry, "step", &names).expect_err("none of them is known")),
            None => Err(node.unexpected("a step")),
        },
    }
}

fn phase(node: &Node) -> Result<Phase, String> {
    let known = ["name", "duration", "arrivalRate", "rampTo", "arrivalCount", "maxVusers", "pause"];
    let fields = Fields::of(node, &known)?;
    let name = fields.get("name").map(|node| text(node).map(str::to_owned)).transpose()?;
    let max_vusers = fields.get("maxVusers").map(|node| whole(node, 1, u32::MAX)).transpose()?;
    let rate = |name| fields.get(name).map(|node| number(node, 0.0, MAX_RATE)).transpose();
    let (from, to) = (rate("arrivalRate")?, rate("rampTo")?);
    let count = fields.get("arrivalCount").map(|node| whole(node, 0, u32::MAX)).transpose()?;
    let pause = fields.get("pause").map(duration_above_zero).transpose()?;
    let duration = fields.get("duration").map(duration_above_zero).transpose()?;
    let (load, duration) = match (from.or(to.map(|_| 0.0)), count, pause) {
        (Some(from), None, None) => (Load::Rate { from, to: to.unwrap_or(from) }, duration),
        (None, Some(count), None) => (Load::Count(count), duration),
        (None, None, Some(_)) if duration.is_some() => {
            return Err(node.mistake("a pause is its own duration"));
        }
        (None, None, Some(pause)) => (Load::Pause, Some(pause)),
        _ => return Err(node.mistake("a phase needs one of arrivalRate (with or without rampTo), arrivalCount, pause")),
    };
    let duration = duration.ok_or_else(|| node.mistake("\"duration\" is missing"))?;
    if let Load::Count(count) = load
        && f64::from(count) / duration.as_secs_f64() > MAX_RATE
    {
        return Err(node.mistake(format!("more than {MAX_RATE} users a second")));
    }
    Ok(Phase { name, duration, load, max_vusers })
}

fn payload(node: &Node) -> Result<Payload, String> {
    let fields = Fields::of(node, &["path", "fields", "order", "skipHeader", "delimiter"])?;
    let path = fields.need("path")?;
    let columns = fields.need("fields")?;
    let columns = list(columns, 256)?.iter().map(|node| text(node).map(str::to_owned)).collect::<Result<_, _>>()?;
    let mut payload = Payload::new(text(path)?.into(), columns);
    if let Some(node) = fields.get("order") {
        payload.order = [Order::Sequence, Order::Random][choice(node, "order", &["sequence", "random"])?];
    }
    if let Some(node) = fields.get("skipHeader") {
        payload.has_header = flag(node)?;
    }
    if let Some(node) = fields.get("delimiter") {
        match text(node)?.as_bytes() {
            [byte] if byte.is_ascii() && !b"\"\r\n".contains(byte) => payload.delimiter = *byte,
            _ => return Err(node.unexpected("one character")),
        }
    }
    Ok(payload)
}

fn netem(node: &Node) -> Result<Netem, String> {
    let fields = Fields::of(node, &["loss", "delay", "jitter"])?;
    let loss = match fields.get("loss") {
        Some(Node { place, kind: Kind::Text(text) }) => {
            let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
            let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
            percent.ok_or_else(|| place.mistake(format!("expected percent as in 5%, but found {text:?}")))?
        }
        Some(node) => number(node, 0.0, 100.0)?,
        None => 0.0,
    };
    let short = |name| match fields.get(name) {
        Some(node) => {
            let duration = duration(node)?;
            if duration > NETEM_LONGEST {
                return Err(node.mistake(format!("the limit is {NETEM_LONGEST:?}; append \"ms\" for milliseconds")));
            }
            Ok(duration)
        }
        None => Ok(Duration::ZERO),
    };
    Ok(Netem { loss: loss / 100.0, delay: short("delay")?, jitter: short("jitter")? })
}

/// Returns the settings of the only plugin.
fn plugins(node: &Node) -> Result<Option<&Node>, String> {
    for entry in map(node)? {
        check_key(entry, "plugin", &["ensure"])?;
    }
    Ok(Fields::of(node, &["ensure"])?.get("ensure"))
}

fn ensure(node: &Node, shorthand: &str, ensure: &mut Vec<Condition>) -> Result<(), String> {
    if let Kind::Null = node.kind {
        return Ok(());
    }
    let known: Vec<&str> = ["thresholds", "conditions", "maxErrorRate"].into_iter().chain(PERCENTILES).collect();
    let fields = Fields::of(node, &known)?;
    if let Some(node) = fields.get("thresholds") {
        for node in list(node, STEPS)? {
            for Entry { key, value, .. } in map(node)? {
                ensure.push(Condition::below(key, number(value, f64::MIN, f64::MAX)?));
            }
        }
    }
    if let Some(node) = fields.get("conditions") {
        for node in list(node, STEPS)? {
            let (expression, is_strict) = match &node.kind {
                Kind::Text(_) => (node, None),
                _ => {
                    let fields = Fields::of(node, &["expression", "strict"])?;
                    (fields.need("expression")?, fields.get("strict"))
                }
            };
            let is_strict = is_strict.map(flag).transpose()?.unwrap_or(true);
            let mut condition = Condition::parse(text(expression)?)
                .map_err(|error| expression.mistake(format!("in the condition: {error}")))?;
            condition.is_strict = is_strict;
            ensure.push(condition);
        }
    }
    if let Some(node) = fields.get("maxErrorRate") {
        ensure.push(Condition::error_rate(number(node, 0.0, 100.0)?));
    }
    for name in PERCENTILES {
        if let Some(node) = fields.get(name) {
            ensure.push(Condition::below(&format!("{shorthand}.{name}"), number(node, 0.0, f64::MAX)?));
        }
    }
    Ok(())
}

fn has_http(scenarios: &[Node]) -> bool {
    scenarios.iter().filter_map(|node| map(node).ok()).flatten().any(|entry| {
        entry.key == "engine" && matches!(&entry.value.kind, Kind::Text(name) if name == Engine::Http.name())
    })
}

fn measure(fields: &Fields) -> Result<Option<Measure>, String> {
    let measure = fields.get("measure").map(|node| choice(node, "measure", &["echo"])).transpose()?;
    Ok(measure.map(|_| Measure::Echo))
}

fn map(node: &Node) -> Result<&[Entry], String> {
    match &node.kind {
        Kind::Map(entries) => Ok(entries),
        _ => Err(node.unexpected("a map")),
    }
}

/// Returns the entries of a list: at least one, at most `most`.
fn list(node: &Node, most: usize) -> Result<&[Node], String> {
    match &node.kind {
        Kind::List(nodes) if nodes.is_empty() => Err(node.mistake("the list is empty")),
        Kind::List(nodes) if nodes.len() > most => {
            Err(node.mistake(format!("the list may have at most {most} entries")))
        }
        Kind::List(nodes) => Ok(nodes),
        _ => Err(node.unexpected("a list")),
    }
}

fn text(node: &Node) -> Result<&str, String> {
    match &node.kind {
        Kind::Text(text) => Ok(text),
        _ => Err(node.unexpected("a text")),
    }
}

fn flag(node: &Node) -> Result<bool, String> {
    match node.kind {
        Kind::Bool(value) => Ok(value),
        _ => Err(node.unexpected("true or false")),
    }
}

/// Returns the index of the name in `known`.
fn choice(node: &Node, what: &str, known: &[&str]) -> Result<usize, String> {
    let name = text(node)?;
    known.iter().position(|one| *one == name).ok_or_else(|| node.mistake(unknown(what, name, known)))
}

fn number(node: &Node, least: f64, most: f64) -> Result<f64, String> {
    let Kind::Number(number) = &node.kind else { return Err(node.unexpected("a number")) };
    let within = number.as_f64().filter(|number| (least..=most).contains(number));
    within.ok_or_else(|| node.mistake(format!("{number} is out of range: expected a number from {least} to {most}")))
}

fn whole(node: &Node, least: u32, most: u32) -> Result<u32, String> {
    let Kind::Number(number) = &node.kind else { return Err(node.unexpected("an integer")) };
    let within = number.as_u64().and_then(|number| u32::try_from(number).ok());
    let within = within.filter(|number| (least..=most).contains(number));
    within.ok_or_else(|| node.mistake(format!("{number} is out of range: expected an integer from {least} to {most}")))
}

fn count_of(node: &Node) -> Result<u64, String> {
    let Kind::Number(number) = &node.kind else { return Err(node.unexpected("an integer")) };
    let within = number.as_u64().filter(|number| (1..=MAX_COUNT).contains(number));
    within.ok_or_else(|| node.mistake(format!("{number} is out of range: expected an integer from 1 to {MAX_COUNT}")))
}

fn duration(node: &Node) -> Result<Duration, String> {
    match &node.kind {
        Kind::Number(number) => duration_of(&number.to_string()),
        Kind::Text(text) => duration_of(text),
        _ => return Err(node.unexpected("a duration, as in 30 (seconds), 500ms, 2m")),
    }
    .map_err(|sentence| node.mistake(sentence))
}

fn duration_above_zero(node: &Node) -> Result<Duration, String> {
    let duration = duration(node)?;
    if duration.is_zero() { Err(node.mistake("it must be above zero")) } else { Ok(duration) }
}

/// A number of seconds, or a number and its unit; in whole microseconds.
pub(super) fn duration_of(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    // An "e" belongs to the number only where a digit follows.
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    let unit = text[number.len()..].trim_start();
    let seconds = match unit {
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => 1e-3,
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return Err(is_no_duration(text)),
    };
    let number: f64 = number.parse().map_err(|_| is_no_duration(text))?;
    let micros = (number * seconds * 1e6).round();
    if !(0.0..=LONGEST.as_secs_f64() * 1e6).contains(&micros) {
        return Err(format!("{text} is out of range: a duration is at most 100 days"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within the range")]
    Ok(Duration::from_micros(micros as u64))
}

fn is_no_duration(text: &str) -> String {
    let text: String = text.chars().take(40).collect();
    format!("{text:?} is no duration, as 30 (seconds), 500ms, 2m are")
}
