//! What the functions and the built-in names of expressions mean, in a line each.
//! Must not know what a document declares.

/// A function or method, as it is written, and what it gives.
struct Function {
    name: &'static str,
    form: &'static str,
    meaning: &'static str,
}

const fn function(name: &'static str, form: &'static str, meaning: &'static str) -> Function {
    Function {
        name,
        form,
        meaning,
    }
}

/// Everything that may be called.
const FUNCTIONS: [Function; 25] = [
    function(
        "all",
        "list.all(x, CONDITION)",
        "True when the condition holds for every entry.",
    ),
    function(
        "always",
        "always()",
        "True, also when jobs or steps before have failed. In `when`.",
    ),
    function(
        "bool",
        "bool(x)",
        "The text `true` or `false` as true/false.",
    ),
    function(
        "cancelled",
        "cancelled()",
        "True when the run is being cancelled. In `when`.",
    ),
    function(
        "contains",
        "text.contains(part)",
        "True when the text has the part in it.",
    ),
    function(
        "double",
        "double(x)",
        "A number, or text that is one, as a number with a fraction.",
    ),
    function(
        "dyn",
        "dyn(x)",
        "The value itself; its type is not checked before it runs.",
    ),
    function(
        "endsWith",
        "text.endsWith(end)",
        "True when the text ends with another.",
    ),
    function(
        "exists",
        "list.exists(x, CONDITION)",
        "True when the condition holds for an entry.",
    ),
    function(
        "exists_one",
        "list.exists_one(x, CONDITION)",
        "True when the condition holds for exactly one entry.",
    ),
    function(
        "failure",
        "failure()",
        "True when a job or step before has failed. In `when`.",
    ),
    function(
        "filter",
        "list.filter(x, CONDITION)",
        "The entries for which the condition holds.",
    ),
    function(
        "fromJson",
        "fromJson(text)",
        "The value that the text is in JSON.",
    ),
    function("has", "has(a.b)", "True when the field is there."),
    function(
        "hashFiles",
        "hashFiles('**/Cargo.lock')",
        "A hash of the files that fit, made where the job runs. Only in `env`, and on its own.",
    ),
    function(
        "int",
        "int(x)",
        "A number, or text that is one, as a whole number.",
    ),
    function(
        "map",
        "list.map(x, VALUE)",
        "A list of what becomes of each entry.",
    ),
    function(
        "matches",
        "text.matches(pattern)",
        "True when the regular expression fits a part of the text.",
    ),
    function(
        "size",
        "size(x)",
        "How many characters a text has, or entries a list or map.",
    ),
    function(
        "startsWith",
        "text.startsWith(start)",
        "True when the text starts with another.",
    ),
    function("string", "string(x)", "The value as text."),
    function(
        "success",
        "success()",
        "True when all jobs or steps before have succeeded. In `when`.",
    ),
    function("toJson", "toJson(x)", "The value as text in JSON."),
    function(
        "type",
        "type(x)",
        "The type of the value, as in `type(x) == int`.",
    ),
    function(
        "uint",
        "uint(x)",
        "A number, or text that is one, as a whole number from 0 on.",
    ),
];

/// What a function is, in Markdown.
pub(super) fn of_function(name: &str) -> Option<String> {
    let known = FUNCTIONS.iter().find(|function| function.name == name)?;
    Some(format!("`{}`\n\n{}", known.form, known.meaning))
}

/// What a name is that every expression knows, in Markdown.
pub(super) fn of_name(parts: &[&str]) -> Option<String> {
    let meaning = match parts {
        ["inputs"] => "The inputs of the step template.",
        ["jobs"] => "The jobs that have ended before: their results and outputs.",
        ["matrix"] => "The values of the job's combination, by axis.",
        ["params"] => "The parameters of the run.",
        ["pipeline"] => "The pipeline that runs.",
        ["run"] => "The run itself.",
        ["source"] => "What is built in Git; a text that is not known is empty, a number 0.",
        ["steps"] => "The steps of the job, in its outputs.",
        ["pipeline", "name"] => "Name of the pipeline.",
        ["run", "name"] => "Name of the run.",
        ["run", "namespace"] => "Namespace of the run.",
        ["source", "branch"] => "Branch that is built; empty when the run does not say.",
        ["source", "commit"] => "Commit that is built; empty when the run does not say.",
        ["source", "pullRequest"] => "Number of the pull request that is built, else 0.",
        ["source", "tag"] => "Tag that is built; empty when the run does not say.",
        ["jobs", _, "result"] => {
            "How the job ended: `Succeeded`, `Failed`, `Skipped` or `Cancelled`."
        }
        ["jobs", _, "outputs"] => "The outputs of the job, by name.",
        ["jobs", _, "matrix"] => {
            "The jobs of the matrix, a list: each with its result and outputs."
        }
        ["steps", _, "outputs"] => "What the step has written as its outputs, by name.",
        _ => return None,
    };
    Some(format!("**{}**\n\n{meaning}", parts.join(".")))
}

#[cfg(test)]
mod tests {
    use planner::expression::{Scope, Template};

    use super::*;

    /// What the planner says is known, in the remedy of a name that nothing is like.
    fn known_to_planner(expression: &str) -> Vec<String> {
        let text = format!("${{{{ {expression} }}}}");
        let mistakes = Template::parse(&text, &Scope::default()).unwrap_err();
        let (_, names) = mistakes[0].remedy.split_once(" are ").unwrap();
        names.split(", ").map(str::to_owned).collect()
    }

    #[test]
    fn every_function_and_name_that_the_planner_tells_of_has_a_meaning() {
        let functions = known_to_planner("zzzzzzzzzzzz()");
        assert!(functions.len() > 15, "{functions:?}");
        for name in functions {
            assert!(of_function(&name).is_some(), "{name}");
        }
        for name in known_to_planner("zzzzzzzzzzzz") {
            assert!(of_name(&[&name]).is_some(), "{name}");
        }
        for root in ["source", "run", "pipeline"] {
            for name in known_to_planner(&format!("{root}.zzzzzzzzzzzz")) {
                assert!(of_name(&[root, &name]).is_some(), "{root}.{name}");
            }
        }
        assert_eq!(of_function("zzzzzzzzzzzz"), None);
        assert_eq!(of_name(&["source", "zzzzzzzzzzzz"]), None);
    }

    #[test]
    fn the_planner_knows_every_function_that_has_a_meaning() {
        let scope = Scope {
            status: true,
            files: true,
            ..Scope::default()
        };
        for Function { name, form, .. } in FUNCTIONS {
            let filled = form
                .replace("list.", "[1].")
                .replace("CONDITION", "x > 0")
                .replace("VALUE", "x + 1")
                .replace("a.b", "run.name")
                .replace("text.", "run.name.");
            let filled = filled.replace("(x)", "('1')");
            let arguments = ["(part)", "(end)", "(pattern)", "(start)", "(text)"];
            let filled = arguments
                .iter()
                .fold(filled, |text, argument| text.replace(argument, "('a')"));
            // A list or type is no text, and `hashFiles()` stands alone.
            let filled = match name {
                "hashFiles" => filled,
                _ => format!("dyn({filled})"),
            };
            let parsed = Template::parse(&format!("${{{{ {filled} }}}}"), &scope);
            assert!(parsed.is_ok(), "{name}: {filled}: {:?}", parsed.err());
        }
    }
}
