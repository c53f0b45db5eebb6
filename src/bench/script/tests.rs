use serde_json::json;

use super::*;

/// A script with these lines under `config` (two spaces in) and this flow (six spaces in).
fn around(config: &str, flow: &str) -> String {
    let phases = if config.contains("phases:") { "" } else { "  phases: [{ duration: 1, arrivalRate: 1 }]\n" };
    format!("config:\n{phases}{config}scenarios:\n  - flow:\n{flow}")
}

fn parse(text: &str) -> Script {
    Script::parse(text, &Overrides::default()).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn error_of(text: &str, overrides: &Overrides) -> String {
    let error = Script::parse(text, overrides).expect_err(text).to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

fn flow_of(flow: &str) -> Vec<Step> {
    parse(&around("", flow)).scenarios.remove(0).flow
}

const JOIN: &str = "      - join\n";

#[test]
fn the_websocket_example_of_artillery_runs_unchanged() {
    let script = parse(
        r#"
config:
  target: "ws://localhost:8888/"
  phases:
    - duration: 20
      arrivalRate: 10
scenarios:
  - engine: "ws"
    flow:
      - send: "hello"
      - think: 1
      - send: "world"
"#,
    );
    assert_eq!(script.config.target.as_deref(), Some("ws://localhost:8888/"));
    let load = Load::Rate { from: 10.0, to: 10.0 };
    let phase = Phase { name: None, duration: Duration::from_secs(20), load, max_vusers: None };
    assert_eq!(script.config.phases, [phase]);
    let send = |text: &str| Step::Send { value: json!(text), measure: None };
    let flow = vec![send("hello"), Step::Think(Span::Fixed(Duration::from_secs(1))), send("world")];
    assert_eq!(script.scenarios, [Scenario { name: "scenario 1".to_owned(), weight: 1, engine: Engine::Ws, flow }]);
}

#[test]
fn every_step_is_read() {
    let flow = flow_of(
        "      - join: { room: a, name: b, data: { c: 1 }, bearer: d }\n\
         \x20     - send: [1, 2, false]\n        measure: echo\n\
         \x20     - command: { say: hello }\n\
         \x20     - expect: state\n        within: 500ms\n\
         \x20     - expect: { event: { won: 1 } }\n\
         \x20     - expect: event\n\
         \x20     - think: 250ms-1.5s\n\
         \x20     - think: \"{{ $randomNumber(1, 2) }}\"\n\
         \x20     - reconnect\n\
         \x20     - loop:\n          - log: \"{{ $loopCount }} {{ x }}\"\n        over: [1, two]\n        \
         loopElement: x\n\
         \x20     - loop: [{ log: a }]\n        count: 3\n        pacing: fixed\n        every: 33ms\n\
         \x20     - loop: [{ think: 1 }]\n        duration: 2m\n\
         \x20     - replay: a.journal\n        speed: 4\n\
         \x20     - leave:\n",
    );
    let text = |text: &str| Template::parse(text).unwrap();
    let log = |message: &str| vec![Step::Log(text(message))];
    let think = |span| Step::Think(span);
    let ms = Duration::from_millis;
    let times = Times::Over { variable: "x".to_owned(), values: vec![json!(1), json!("two")] };
    let expected = [
        Step::Join { room: Some(text("a")), name: Some(text("b")), data: json!({ "c": 1 }), bearer: Some(text("d")) },
        Step::Send { value: json!([1, 2, false]), measure: Some(Measure::Echo) },
        Step::Command { value: json!({ "say": "hello" }), measure: None },
        Step::Expect { what: Expected::State, within: ms(500) },
        Step::Expect { what: Expected::Event(Some(json!({ "won": 1 }))), within: ms(10_000) },
        Step::Expect { what: Expected::Event(None), within: ms(10_000) },
        think(Span::Between(ms(250), ms(1_500))),
        think(Span::Filled(text("{{ $randomNumber(1, 2) }}"))),
        Step::Reconnect,
        Step::Loop { times, pacing: Pacing::Free, steps: log("{{ $loopCount }} {{ x }}") },
        Step::Loop { times: Times::Count(3), pacing: Pacing::Fixed(ms(33)), steps: log("a") },
        Step::Loop {
            times: Times::For { duration: ms(120_000) },
            pacing: Pacing::Free,
            steps: vec![think(Span::Fixed(ms(1_000)))],
        },
        Step::Replay { recording: Recording::new("a.journal".into()), speed: 4.0, measure: None },
        Step::Leave,
    ];
    for (step, expected) in flow.iter().zip(&expected) {
        assert_eq!(step, expected);
    }
    assert_eq!(flow.len(), expected.len());

    let http = parse(
        "
config: { phases: [{ pause: 1 }] }
scenarios:
  - engine: http
    flow:
      - get: /a
      - post: { url: /b, json: { n: 1 }, headers: { X-A: 5 } }
",
    );
    let request = |method, url, json, headers| Step::Request { method, url: text(url), json, headers };
    assert_eq!(
        http.scenarios[0].flow,
        [
            request(Method::Get, "/a", None, vec![]),
            request(Method::Post, "/b", Some(json!({ "n": 1 })), vec![("X-A".to_owned(), text("5"))])
        ]
    );
    let ws = parse(
        "config: { phases: [{ pause: 1 }] }\nscenarios:\n  - engine: geckos\n    flow: [{ expect: text }, { expect: { \
         text: a } }, leave]\n",
    );
    let within = Duration::from_secs(10);
    assert_eq!(ws.scenarios[0].flow[1], Step::Expect { what: Expected::Text(Some(text("a"))), within });
}

#[test]
fn all_of_config_is_read() {
    let text = "
config:
  target: http://a
  timeout: 2
  http: { timeout: 3s }
  phases:
    - { name: up, duration: 1m, rampTo: 5, maxVusers: 9 }
    - { pause: 500ms }
    - { duration: 10, arrivalCount: 7 }
  rtc: { netem: { loss: 5%, delay: 20ms, jitter: 0.005 } }
  ensure: { p95: 50 }
  plugins:
    ensure:
      maxErrorRate: 1
      thresholds: [{ rtc.open.p99: 900, a: 1 }]
      conditions:
        - rtc.echo.p99 < 80
        - { expression: vusers.failed == 0, strict: false }
  variables: { one: 1, many: [2, 3] }
scenarios:
  - { name: a, weight: 3, flow: [{ log: \"{{ one }}\" }] }
  - { flow: [{ log: b }] }
";
    let Script { config, scenarios } = parse(text);
    let loads: Vec<_> = config.phases.iter().map(|phase| (phase.duration.as_millis(), phase.load)).collect();
    let ramp = Load::Rate { from: 0.0, to: 5.0 };
    assert_eq!(loads, [(60_000, ramp), (500, Load::Pause), (10_000, Load::Count(7))]);
    assert_eq!((config.phases[0].name.as_deref(), config.phases[0].max_vusers), (Some("up"), Some(9)));
    let [delay, jitter] = [20, 5].map(Duration::from_millis);
    assert_eq!(config.netem, Netem { loss: 0.05, delay, jitter });
    assert_eq!(config.timeout, Duration::from_secs(3));
    let ensured: Vec<_> = config.ensure.iter().map(|condition| (condition.text(), condition.is_strict)).collect();
    let failed = Condition::error_rate(1.0);
    assert_eq!(
        ensured,
        [
            ("rtc.echo.p95 < 50", true),
            ("rtc.open.p99 < 900", true),
            ("a < 1", true),
            ("rtc.echo.p99 < 80", true),
            ("vusers.failed == 0", false),
            (failed.text(), true),
        ]
    );
    let shares: Vec<_> = scenarios.iter().map(|scenario| (scenario.name.as_str(), scenario.weight)).collect();
    assert_eq!(shares, [("a", 3), ("scenario 2", 1)]);
    let drawn =
        |user, seed| config.variables_of(user, seed).fill_value(&json!(["{{ one }}", "{{ many }}", "{{ $uuid }}"]));
    assert_eq!(drawn(1, 2), drawn(1, 2));
    assert_ne!(drawn(1, 2), drawn(2, 2));
    assert_ne!(drawn(1, 2), drawn(1, 3));
    let many: Vec<_> = (0..50).map(|user| drawn(user, 1)[1].clone()).collect();
    assert!(many.contains(&json!(2)) && many.contains(&json!(3)));
    let http = parse(&text.replace("flow: [{ log: b }]", "engine: http, flow: [{ log: b }]"));
    assert_eq!(http.config.ensure[0].text(), "http.response_time.p95 < 50");
}

#[test]
fn the_command_line_goes_before_the_file() {
    let text = r#"
config:
  target: "http://{{ $env.HOST }}/"
  variables: { a: 1, b: 2 }
  environments:
    fast: { phases: [{ duration: 1, arrivalRate: 100 }], variables: { b: 3 } }
    slow: { phases: [{ pause: 1 }] }
scenarios:
  - { name: x, flow: [{ log: "{{ a }}{{ b }}{{ $environment }}{{ $env.HOST }}" }] }
  - { name: y, flow: [{ log: y }] }
"#;
    let process = BTreeMap::from([("HOST".to_owned(), "{{ a }}".to_owned())]);
    let fast = Overrides { environment: Some("fast".to_owned()), process, ..Overrides::default() };
    let script = Script::parse(text, &fast).unwrap();
    assert_eq!(script.config.target.as_deref(), Some("http://{{ a }}/"));
    assert_eq!(script.config.phases[0].load, Load::Rate { from: 100.0, to: 100.0 });
    let said = |script: &Script| {
        let Step::Log(template) = &script.scenarios[0].flow[0] else { panic!("it logs") };
        script.config.variables_of(1, 1).fill(template)
    };
    assert_eq!(said(&script), "13fast{{ a }}");

    let all = Overrides {
        variables: Some("{\"a\": \"v\", \"c\": 5}".to_owned()),
        file: Some("{\"config\": {\"environments\": {\"fast\": {\"phases\": [{\"pause\": 9}]}}}}".to_owned()),
        target: Some("http://t".to_owned()),
        scenario: Some("x".to_owned()),
        ..fast.clone()
    };
    let script = Script::parse(text, &all).unwrap();
    assert_eq!((script.config.target.as_deref(), script.scenarios.len()), (Some("http://t"), 1));
    assert_eq!((script.config.phases[0].load, said(&script).as_str()), (Load::Pause, "v3fast{{ a }}"));

    let with = |change: &dyn Fn(&mut Overrides)| {
        let mut overrides = fast.clone();
        change(&mut overrides);
        error_of(text, &overrides)
    };
    for (error, expected) in [
        (
            with(&|o| o.environment = None),
            "line 3, column 3: there are no phases: choose an environment with -e (fast, slow)",
        ),
        (with(&|o| o.environment = Some("fats".to_owned())), "there is no environment \"fats\"; is it \"fast\"?"),
        (with(&|o| o.scenario = Some("z".to_owned())), "there is no scenario \"z\""),
        (with(&|o| o.process.clear()), "line 3, column 11: the process's environment has no HOST"),
        (with(&|o| o.variables = Some("[]".to_owned())), "-v, line 1, column 1: expected a map, but found a list"),
        (with(&|o| o.variables = Some("{\"a\": }x".to_owned())), "-v, line 1, column "),
        (with(&|o| o.file = Some("5".to_owned())), "--overrides, line 1, column 1: expected a map"),
        (
            with(&|o| o.file = Some("{\"config\": {\"phase\": []}}".to_owned())),
            "--overrides, line 1, column 13: there is no key \"phase\"; is it \"phases\"?",
        ),
        (with(&|o| o.payload = Some("a.csv".into())), "-p replaces the payload of a file with exactly one; this has 0"),
    ] {
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_mistake_in_config_is_named_with_its_place() {
    for (config, expected) in [
        ("  targte: a\n", "line 3, column 3: there is no key \"targte\"; is it \"target\"? Known are target, "),
        ("  processor: ./a.js\n", "line 3, column 3: there is no key \"processor\": no JavaScript is run here"),
        ("  tls: { ca: a.pem }\n", "line 3, column 10: there is no key \"ca\"; known are rejectUnauthorized"),
        ("  plugins: { expect: {} }\n", "line 3, column 14: there is no plugin \"expect\"; known are ensure"),
        ("  phases: []\n", "line 2, column 11: the list is empty"),
        ("  phases: [{ duration: 1 }]\n", "line 2, column 12: a phase needs one of arrivalRate"),
        ("  phases: [{ arrivalRate: 1 }]\n", "line 2, column 12: \"duration\" is missing"),
        ("  phases: [{ arrivalRate: 1, pause: 1 }]\n", "line 2, column 12: a phase needs one of"),
        ("  phases: [{ duration: 1, pause: 1 }]\n", "line 2, column 12: a pause is its own duration"),
        ("  phases: [{ pause: 0 }]\n", "line 2, column 21: it must be above zero"),
        ("  phases: [{ pause: -1 }]\n", "line 2, column 21: -1 is out of range"),
        ("  phases: [{ pause: 101 days }]\n", "line 2, column 21: 101 days is out of range"),
        ("  phases: [{ pause: soon }]\n", "line 2, column 21: \"soon\" is no duration"),
        ("  phases: [{ pause: .inf }]\n", "line 2, column 21: non-finite float"),
        (
            "  phases: [{ duration: 1, arrivalRate: -1 }]\n",
            "line 2, column 40: -1 is out of range: expected a number from 0",
        ),
        ("  phases: [{ duration: 1, arrivalRate: .nan }]\n", "line 2, column 40: non-finite float"),
        ("  phases: [{ duration: 1, arrivalRate: 100001 }]\n", "line 2, column 40: 100001 is out of range"),
        ("  phases: [{ duration: 1ms, arrivalCount: 5000 }]\n", "line 2, column 12: more than 100000 users a second"),
        (
            "  phases: [{ duration: 1, arrivalCount: 1.5 }]\n",
            "line 2, column 41: 1.5 is out of range: expected an integer",
        ),
        ("  phases: [{ duration: 1, arrivalCount: 1, maxVusers: 0 }]\n", "line 2, column 55: 0 is out of range"),
        ("  variables: { \"a b\": 1 }\n", "line 3, column 16: \"a b\" can't be a variable's name"),
        ("  variables: { a: [] }\n", "line 3, column 19: the list is empty"),
        ("  rtc: { netem: { loss: 101 } }\n", "line 3, column 25: 101 is out of range"),
        ("  rtc: { netem: { loss: much } }\n", "line 3, column 25: expected percent"),
        ("  rtc: { netem: { delay: 50 } }\n", "line 3, column 26: the limit is 10s; append"),
        ("  ensure: { p42: 1 }\n", "line 3, column 13: there is no key \"p42\""),
        ("  ensure: { conditions: [a <] }\n", "line 3, column 26: in the condition: column "),
        ("  ensure: { maxErrorRate: 101 }\n", "line 3, column 27: 101 is out of range"),
        ("  payload: { path: a.csv }\n", "line 3, column 12: \"fields\" is missing"),
        ("  payload: { path: a.csv, fields: [a], delimiter: ab }\n", "line 3, column 51: expected one character"),
        ("  payload: { path: a.csv, fields: [a], order: any }\n", "line 3, column 47: there is no order \"any\""),
        ("  target: \"{{ $uuid }}\"\n", "line 3, column 11: it must be the same for all users"),
        ("  target: \"{{ a }}\"\n", "line 3, column 11: there is no variable \"a\""),
        ("  environments: { a: { phase: 1 } }\n", "line 3, column 24: there is no key \"phase\"; is it \"phases\"?"),
        ("  environments: { a: { timeout: x } }\n", "line 3, column 33: \"x\" is no duration"),
        ("  timeout: 1\n  timeout: 2\n", "line 4, column 3: "),
    ] {
        let error = error_of(&around(config, "      - log: a\n"), &Overrides::default());
        assert!(error.starts_with(expected), "{config}: {error}");
    }
}

#[test]
fn a_mistake_in_a_flow_is_named_with_its_place() {
    for (flow, expected) in [
        ("      - thnik: 1\n", "line 5, column 9: there is no step \"thnik\"; is it \"think\"? Known are think, log"),
        ("      - thnik\n", "line 5, column 9: there is no step \"thnik\"; is it \"think\"?"),
        ("      - function: a\n", "line 5, column 9: there is no step \"function\": no JavaScript is run here"),
        (
            "      - log: a\n        beforeRequest: b\n",
            "line 6, column 9: there is no key \"beforeRequest\": no JavaScript",
        ),
        ("      - send: 1\n", "line 5, column 9: send needs a join before it"),
        ("      - join\n      - join\n", "line 6, column 9: this user has joined already"),
        ("      - join\n      - leave\n      - send: 1\n", "line 7, column 9: send needs a join before it"),
        ("      - get: /\n", "line 5, column 9: get is a step of engine http, and this scenario is of rtc"),
        ("      - think: 1\n        log: a\n", "line 5, column 9: think and log are two steps"),
        ("      - think: [1]\n", "line 5, column 16: expected a duration"),
        ("      - think: 2s-1s\n", "line 5, column 16: a range starts with the shorter duration"),
        ("      - think: -1\n", "line 5, column 16: -1 is out of range"),
        ("      - log: \"{{ a }}\"\n", "line 5, column 14: there is no variable \"a\""),
        ("      - log: \"{{ $loopCount }}\"\n", "line 5, column 14: there is no variable \"$loopCount\""),
        ("      - log: \"{{ a.b() }}\"\n", "line 5, column 14: \"a.b()\" is invalid"),
        ("      - log: {{ a }}\n", "line 5, column "),
        ("      - join: { rom: a }\n", "line 5, column 17: there is no key \"rom\"; is it \"room\"?"),
        ("      - join\n      - send: { a: [\"{{ b }}\"] }\n", "line 6, column 21: there is no variable \"b\""),
        ("      - join\n      - send: 1\n        measure: all\n", "line 7, column 18: there is no measure \"all\""),
        (
            "      - join\n      - send: 1\n        within: 1\n",
            "line 7, column 9: there is no key \"within\"; known are send",
        ),
        (
            "      - join\n      - expect: stat\n",
            "line 6, column 17: there is no thing to expect \"stat\"; is it \"state\"?",
        ),
        ("      - join\n      - expect: { state: 1 }\n", "line 6, column 26: expected nothing, but found 1"),
        ("      - join\n      - leave: now\n", "line 6, column 16: expected nothing, but found \"now\""),
        ("      - join\n      - replay: a\n        speed: 0\n", "line 7, column 16: 0 is out of range"),
        ("      - loop: [{ log: a }]\n", "line 5, column 9: a loop needs one of count, over, duration"),
        ("      - loop: []\n        count: 1\n", "line 5, column 15: the list is empty"),
        ("      - loop: [{ log: a }]\n        count: 0\n", "line 6, column 16: 0 is out of range"),
        (
            "      - loop: [{ log: a }]\n        whileTrue: f\n",
            "line 6, column 9: there is no key \"whileTrue\": no Java",
        ),
        (
            "      - loop: [{ log: a }]\n        count: 1\n        pacing: fixed\n",
            "line 5, column 9: pacing: fixed needs",
        ),
        ("      - loop: [{ log: a }]\n        count: 1\n        every: 1\n", "line 7, column 16: \"every\" needs"),
        ("      - loop: [{ log: a }]\n        over: users\n", "line 6, column 15: there is no variable \"users\""),
        ("      - 5\n", "line 5, column 9: expected a map, but found 5"),
        ("      - {}\n", "line 5, column 9: expected a step"),
    ] {
        let error = error_of(&around("", flow), &Overrides::default());
        assert!(error.starts_with(expected), "{flow}: {error}");
    }
}

#[test]
fn a_mistake_in_a_file_is_named_with_its_place() {
    let phases = "config: { phases: [{ pause: 1 }] }\n";
    for (text, expected) in [
        (String::new(), "line "),
        ("[]".to_owned(), "line 1, column 1: expected a map, but found a list"),
        ("config: {}\nscenario: []".to_owned(), "line 2, column 1: there is no key \"scenario\"; is it \"scenarios\"?"),
        (phases.to_owned(), "line 1, column 1: \"scenarios\" is missing"),
        ("config: {}\nscenarios: [{ flow: [leave] }]".to_owned(), "line 1, column 9: phases are missing"),
        (format!("{phases}before: {{}}\nscenarios: []"), "line 2, column 1: there is no key \"before\": there are no"),
        (format!("{phases}scenarios: []"), "line 2, column 12: the list is empty"),
        (
            format!("{phases}scenarios: [{{ flow: [leave], wieght: 1 }}]"),
            "line 2, column 30: there is no key \"wieght\"",
        ),
        (format!("{phases}scenarios: [{{ flow: [log: a], weight: 0 }}]"), "line 1, column 1: no scenario has a weight"),
        (format!("{phases}scenarios: [{{ flow: [log: a], weight: -1 }}]"), "line 2, column 39: -1 is out of range"),
        (
            format!("{phases}scenarios: [{{ flow: [log: a], engine: playwright }}]"),
            "line 2, column 39: there is no engine \"playwright\"; known are rtc, ws, http, geckos",
        ),
        (
            format!("{phases}scenarios: [{{ name: a, flow: [log: a] }}, {{ name: a, flow: [log: a] }}]"),
            "line 2, column 42: the name \"a\" is used twice",
        ),
        ("config: [a\n".to_owned(), "line "),
        ("\tconfig".to_owned(), "line 1, column "),
        ("1: 2".to_owned(), "line 1, column 1: there is no key \"1\""),
    ] {
        let error = error_of(&text, &Overrides::default());
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn limits_hold() {
    let nested = |loops: usize| {
        let open = "{ count: 1, loop: [".repeat(loops);
        around("", &format!("      - {open}log: a{}\n", "] }".repeat(loops)))
    };
    parse(&nested(LOOPS));
    let error = error_of(&nested(LOOPS + 1), &Overrides::default());
    assert!(error.contains("loops may be nested at most 16 deep"), "{error}");
    let steps = |count: usize| around("", &"      - log: a\n".repeat(count));
    parse(&steps(STEPS));
    error_of(&steps(STEPS + 1), &Overrides::default());
    let two_lists = steps(STEPS - 1) + "  - flow: [{ log: a }, { log: a }]\n";
    assert!(error_of(&two_lists, &Overrides::default()).ends_with("there may be at most 10000 steps"));
    let long = "a".repeat(FILE_BYTES + 1);
    assert!(error_of(&long, &Overrides::default()).contains("exceeds the limit"));
    // Small in the file, large when every alias is replaced.
    let layers: String = (1..20).map(|n| format!("  a{n}: &a{n} [*a{0}, *a{0}, *a{0}, *a{0}]\n", n - 1)).collect();
    error_of(&format!("config:\n  a0: &a0 [1]\n{layers}"), &Overrides::default());
    let copies = "*a, ".repeat(4_000);
    error_of(&format!("a: &a {}\nb: [{copies}]", "x".repeat(900_000)), &Overrides::default());
    error_of(&"[".repeat(100_000), &Overrides::default());
}

#[test]
fn durations_are_read() {
    for (text, expected) in [
        ("30", Some(30_000_000)),
        ("0.1", Some(100_000)),
        ("500ms", Some(500_000)),
        ("1.5 m", Some(90_000_000)),
        ("2 hours", Some(7_200_000_000)),
        ("100d", Some(8_640_000_000_000)),
        ("1e3", Some(1_000_000_000)),
        ("0", Some(0)),
        ("100.1d", None),
        ("-0.1", None),
        ("5x", None),
        ("", None),
        ("s", None),
        ("inf", None),
        ("NaN", None),
        ("5 5s", None),
    ] {
        let found = read::duration_of(text).ok().map(|duration| duration.as_micros());
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn files_beside_the_script_are_found() {
    let directory = std::env::temp_dir().join(format!("rtcade-script-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("a.yml");
    let flow = format!("{JOIN}      - log: \"{{{{ user }}}}\"\n      - loop: [replay: a.journal]\n        count: 1\n");
    std::fs::write(&path, around("  payload: { path: u.csv, fields: [user], skipHeader: true }\n", &flow)).unwrap();
    let read = || Script::read(&path, &Overrides::default());
    assert!(read().unwrap_err().to_string().contains("u.csv can't be read"));
    std::fs::write(directory.join("u.csv"), "user\nAnn\n").unwrap();
    assert!(read().unwrap_err().to_string().contains("a.journal can't be read: "));
    std::fs::write(directory.join("a.journal"), "").unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.ends_with("a.journal can't be played: at byte 0: this is no recording of a room"), "{error}");
    let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/journals/arena.journal");
    std::fs::copy(recorded, directory.join("a.journal")).unwrap();
    let script = read().unwrap();
    let Step::Loop { steps, .. } = &script.scenarios[0].flow[2] else { panic!("it is a loop") };
    let Step::Replay { recording, .. } = &steps[0] else { panic!("it replays") };
    assert_eq!(recording.players(), 4);
    assert_eq!(recording.said_by(1), recording.said_by(5));
    assert!(recording.said_by(1) != recording.said_by(2));
    let Step::Log(template) = &script.scenarios[0].flow[1] else { panic!("it logs") };
    assert_eq!(script.config.variables_of(7, 7).fill(template), "Ann");
    let elsewhere = Overrides { payload: Some(directory.join("none.csv")), ..Overrides::default() };
    assert!(Script::read(&path, &elsewhere).unwrap_err().to_string().contains("none.csv can't be read"));
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(read().unwrap_err().to_string().starts_with("it can't be read: "));
}
