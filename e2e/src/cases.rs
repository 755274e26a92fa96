//! The table of cases: pipeline files and what must come out, whichever back end runs them.
//! Must not know how a back end works.

use crds::JobState::{self, Cancelled, Failed, Skipped, Succeeded};

/// One pipeline file and its expected outcome.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Name of the file in `e2e/cases` without `.yaml`, and of the pipeline in it.
    pub name: &'static str,
    /// Parameters of the run.
    pub params: &'static [(&'static str, &'static str)],
    /// Environment of the run.
    pub env: &'static [(&'static str, &'static str)],
    /// Jobs that are approved when they ask.
    pub approve: &'static [&'static str],
    /// Jobs that are rejected when they ask.
    pub reject: &'static [&'static str],
    /// Exit code of `rustci` for the run.
    pub exit: i32,
    /// Every job's name and final state.
    pub jobs: &'static [(&'static str, JobState)],
    /// What the logs of jobs must be, byte for byte, their steps one after the other.
    pub logs: &'static [(&'static str, &'static [u8])],
    /// Parts of the message of a job.
    pub messages: &'static [(&'static str, &'static str)],
}

const CASE: Case = Case {
    name: "",
    params: &[],
    env: &[],
    approve: &[],
    reject: &[],
    exit: 0,
    jobs: &[],
    logs: &[],
    messages: &[],
};

/// Every case.
pub const CASES: &[Case] = &[
    Case {
        name: "hello",
        jobs: &[("greet", Succeeded)],
        logs: &[("greet", b"hello from greet\n")],
        ..CASE
    },
    Case {
        name: "diamond",
        jobs: &[
            ("top", Succeeded),
            ("left", Succeeded),
            ("right", Succeeded),
            ("bottom", Succeeded),
        ],
        logs: &[("left", b"left\n"), ("bottom", b"bottom 1\nbottom 2\n")],
        ..CASE
    },
    Case {
        name: "failing",
        exit: 1,
        jobs: &[
            ("breaks", Failed),
            ("dependent", Skipped),
            ("second-dependent", Skipped),
            ("apart", Succeeded),
            ("report", Succeeded),
        ],
        logs: &[
            ("breaks", b"before\nabout to fail\n"),
            ("apart", b"apart\n"),
            ("report", b"breaks was Failed\n"),
        ],
        messages: &[
            ("breaks", "step `bad` exited with code 7"),
            ("dependent", "breaks"),
        ],
        ..CASE
    },
    Case {
        name: "step-timeout",
        exit: 4,
        jobs: &[("slow", Failed)],
        logs: &[("slow", b"started\n")],
        messages: &[("slow", "sleep")],
        ..CASE
    },
    Case {
        name: "job-timeout",
        exit: 4,
        jobs: &[("slow", Failed)],
        logs: &[("slow", b"started\n")],
        messages: &[("slow", "1s")],
        ..CASE
    },
    Case {
        name: "run-timeout",
        exit: 4,
        jobs: &[
            ("slow", Cancelled),
            ("later", Cancelled),
            ("tidy", Succeeded),
        ],
        logs: &[("slow", b"started\n"), ("tidy", b"tidied\n")],
        ..CASE
    },
    Case {
        name: "outputs",
        jobs: &[("make", Succeeded), ("use", Succeeded)],
        logs: &[(
            "use",
            b"version is v1.2.3\nline one\nline \"two\" with $(date) and 'quotes'\n",
        )],
        ..CASE
    },
    Case {
        name: "large-output",
        exit: 1,
        jobs: &[("make", Failed), ("use", Skipped)],
        messages: &[(
            "make",
            "outputs of step `make`: the job's outputs take more than 32 KiB in all; \
             put large data into files",
        )],
        ..CASE
    },
    Case {
        name: "params",
        params: &[("profile", "debug"), ("count", "41")],
        jobs: &[("show", Succeeded)],
        logs: &[("show", b"job kept debug 42 false\nstep\n")],
        ..CASE
    },
    Case {
        name: "env-levels",
        env: &[
            ("PIPELINE_RUN", "run"),
            ("JOB_RUN", "run"),
            ("STEP_RUN", "run"),
            ("RUN_ONLY", "${{ as it stands }}"),
        ],
        jobs: &[("show", Succeeded)],
        logs: &[(
            "show",
            b"pipeline job step run\n\
              step run run ${{ as it stands }} /from/pipeline\n\
              pipeline job run\n",
        )],
        ..CASE
    },
    Case {
        name: "secret",
        jobs: &[("show", Succeeded)],
        logs: &[(
            "show",
            b"token=*** colour=green absent=unset length=18\n***\n",
        )],
        ..CASE
    },
    Case {
        name: "missing-secret",
        exit: 1,
        jobs: &[("show", Failed)],
        messages: &[("show", "not-there")],
        ..CASE
    },
    Case {
        name: "odd-output",
        exit: 1,
        jobs: &[("odd", Failed)],
        logs: &[],
        ..CASE
    },
    Case {
        name: "shell",
        exit: 1,
        jobs: &[("exact", Failed)],
        logs: &[(
            "exact",
            b"nothing is replaced: ${{ params.nope }} $HOME\nfolder\n",
        )],
        messages: &[("exact", "step `errexit` exited with code 1")],
        ..CASE
    },
    Case {
        name: "conditions",
        jobs: &[
            ("steps", Succeeded),
            ("breaks", Failed),
            ("after", Succeeded),
            ("ship", Skipped),
            ("good", Succeeded),
            ("alarm", Skipped),
        ],
        logs: &[
            ("steps", b"flaky\ngoes on\n"),
            ("breaks", b"bad\ntidy\n"),
            ("after", b"breaks was Failed\n"),
            ("good", b"good\n"),
        ],
        messages: &[
            ("breaks", "step `bad` exited with code 7"),
            ("ship", "`when` is false"),
        ],
        ..CASE
    },
    Case {
        name: "matrix",
        jobs: &[
            ("find", Succeeded),
            ("test.lib_1", Succeeded),
            ("test.lib_2", Succeeded),
            ("test.app_1", Succeeded),
            ("sum", Succeeded),
            ("strict.0", Succeeded),
            ("strict.3", Failed),
        ],
        logs: &[
            ("test.lib_1", b"lib 1 true\n"),
            ("test.lib_2", b"lib 2 true\n"),
            ("test.app_1", b"app 1 false\n"),
            ("sum", b"[\"10\",\"10\",\"11\"]\n"),
        ],
        messages: &[("strict.3", "step `leave` exited with code 3")],
        ..CASE
    },
    Case {
        name: "retry",
        exit: 1,
        jobs: &[("second-try", Succeeded), ("no-try", Failed)],
        messages: &[("no-try", "step `leave` exited with code 3")],
        ..CASE
    },
    Case {
        name: "uses",
        jobs: &[("talk", Succeeded), ("test", Succeeded), ("strict", Failed)],
        logs: &[
            (
                "talk",
                b"$(reboot); 'quiet' ${{ params.word }}\ntwo of 2\nown says hello\n",
            ),
            ("test", b"shared birch 30 shouted it calm\n"),
        ],
        messages: &[("strict", "`params.mode`: it may not be")],
        ..CASE
    },
    Case {
        name: "hash-files",
        exit: 1,
        jobs: &[("show", Succeeded), ("wrong", Failed)],
        logs: &[(
            "show",
            b"before: []\n\
            lock: bf4145a1e32e0d5bdaa5f418ab69e8708dafda74d1e9739f9844891c27199c47\n\
            key: cargo-12b908a1d221493f97ae3dad3d6800884281c7a6e3748c299a482874e7b9cd5e-true\n\
            none: []\n",
        )],
        messages: &[(
            "wrong",
            "step `never`: variable `KEY`: hashFiles: the pattern `[a` is wrong",
        )],
        ..CASE
    },
    Case {
        name: "approval",
        approve: &["ship"],
        reject: &["scrap"],
        exit: 1,
        jobs: &[
            ("ship", Succeeded),
            ("scrap", Failed),
            ("sweep", Skipped),
            ("report", Succeeded),
        ],
        logs: &[
            ("ship", b"shipped\n"),
            ("report", b"ship Succeeded, scrap Failed\n"),
        ],
        messages: &[("scrap", "rejected by"), ("sweep", "scrap")],
        ..CASE
    },
];

/// The case of a name.
///
/// # Panics
/// When the table has no such case.
pub fn case(name: &str) -> &'static Case {
    let found = CASES.iter().find(|case| case.name == name);
    found.unwrap_or_else(|| panic!("no case is named {name}"))
}

/// The manifest of a case.
///
/// # Panics
/// When the file can't be read.
pub fn manifest(name: &str) -> String {
    let path = format!("{}/cases/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
