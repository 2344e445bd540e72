//! Seeing through interpreters: `python3 app.py` is `app.py`.

/// How an interpreter's command line is read.
struct Rules {
    /// Short options (one letter each) that take the next argument, or the rest of their own.
    short_values: &'static str,
    /// Short options whose value is the program itself: no script follows.
    short_code: &'static str,
    /// Short options whose value names the program.
    short_names: &'static str,
    /// Whether short options can be run together (`-um`).
    clusters: bool,
    /// Long options, and multi-letter ones with one dash, that take the next argument.
    long_values: &'static [&'static str],
    /// Those whose value is the program itself.
    long_code: &'static [&'static str],
    /// Those whose value names the program.
    long_names: &'static [&'static str],
    /// Words between the interpreter and the script (`deno run`).
    verbs: &'static [&'static str],
    /// Whether `@file` stands for options in a file, and perhaps for what is run, too: what follows may be arguments of that.
    option_files: bool,
}

const PLAIN: Rules = Rules {
    short_values: "",
    short_code: "",
    short_names: "",
    clusters: true,
    long_values: &[],
    long_code: &[],
    long_names: &[],
    verbs: &[],
    option_files: false,
};

const PYTHON: Rules = Rules {
    short_values: "WX",
    short_code: "c",
    short_names: "m",
    long_values: &["--check-hash-based-pycs"],
    ..PLAIN
};
const PERL: Rules = Rules { short_values: "IMm", short_code: "eE", ..PLAIN };
const RUBY: Rules = Rules { short_values: "IrCE", short_code: "e", ..PLAIN };
const SHELL: Rules = Rules {
    short_values: "oO",
    short_code: "c",
    long_values: &["--rcfile", "--init-file"],
    ..PLAIN
};
const PHP: Rules =
    Rules { short_values: "cdtSz", short_code: "rRB", short_names: "fF", clusters: false, ..PLAIN };
const NODE: Rules = Rules {
    short_values: "rC",
    short_code: "ep",
    clusters: false,
    long_values: &[
        "--require",
        "--import",
        "--loader",
        "--experimental-loader",
        "--conditions",
        "--env-file",
        "--title",
    ],
    long_code: &["--eval", "--print"],
    ..PLAIN
};
const DENO: Rules = Rules {
    clusters: false,
    short_values: "c",
    long_values: &["--config", "--import-map"],
    verbs: &["run", "serve"],
    ..PLAIN
};
const BUN: Rules =
    Rules { clusters: false, short_values: "r", short_code: "ep", verbs: &["run"], ..PLAIN };
const LUA: Rules = Rules { short_values: "l", short_code: "e", clusters: false, ..PLAIN };
const JAVA: Rules = Rules {
    clusters: false,
    short_values: "p",
    short_names: "m",
    long_values: &[
        "-cp",
        "-classpath",
        "--class-path",
        "--module-path",
        "--upgrade-module-path",
        "--add-modules",
        "--add-opens",
        "--add-exports",
        "--add-reads",
    ],
    long_names: &["-jar", "--module"],
    option_files: true,
    ..PLAIN
};
const DOTNET: Rules = Rules {
    clusters: false,
    long_values: &["--additionalprobingpath", "--depsfile", "--runtimeconfig", "--fx-version"],
    verbs: &["exec"],
    ..PLAIN
};

/// Rules of an interpreter, by its basename with or without a version.
fn rules_of(name: &str) -> Option<&'static Rules> {
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let plain = plain.strip_suffix('-').unwrap_or(plain);
    Some(match plain {
        "python" | "pypy" => &PYTHON,
        "perl" => &PERL,
        "ruby" | "jruby" => &RUBY,
        "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" | "mksh" | "fish" => &SHELL,
        "php" => &PHP,
        "node" | "nodejs" => &NODE,
        "deno" => &DENO,
        "bun" => &BUN,
        "lua" | "luajit" | "tclsh" | "guile" | "Rscript" | "mono" => &LUA,
        "java" => &JAVA,
        "dotnet" => &DOTNET,
        _ => return None,
    })
}

/// Last part of a path.
pub(super) fn basename(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

/// Name of the process with this executable (its path) and these arguments (the first is the
/// command's own): the executable's basename, or the script's when it is an interpreter.
#[must_use]
pub fn process_name(executable: &str, arguments: &[&str]) -> String {
    let executable = basename(executable.strip_suffix(" (deleted)").unwrap_or(executable));
    let command = arguments.first().copied().unwrap_or_default();
    // Busybox is a shell when it is called one.
    let called = if executable == "busybox" {
        basename(command.trim_start_matches('-'))
    } else {
        executable
    };
    rules_of(called)
        .and_then(|rules| match arguments {
            [title] => program_of(title),
            arguments => script(rules, arguments.get(1..).unwrap_or_default()),
        })
        .map(basename)
        .filter(|name| !name.is_empty())
        .unwrap_or(executable)
        .to_owned()
}

/// What a process that has written a title over its arguments calls itself: `gunicorn: master [shop]`.
fn program_of(title: &str) -> Option<&str> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let (word, rest) = title.trim_start_matches('[').split_once([':', ' '])?;
    let is_name = !rest.is_empty() && word.chars().all(is_word) && rules_of(word).is_none();
    is_name.then_some(word)
}

/// What an interpreter with these arguments runs; `None` when it is given code, or nothing.
fn script<'a>(rules: &Rules, arguments: &[&'a str]) -> Option<&'a str> {
    let mut rest = arguments.iter().copied();
    let mut verbs = rules.verbs;
    let mut may_be_run = false;
    while let Some(argument) = rest.next() {
        if argument == "--" {
            return rest.next();
        }
        if argument == "-" {
            return None;
        }
        if argument.starts_with('-') {
            match option(rules, argument) {
                Opt::Alone => {}
                Opt::TakesNext => {
                    rest.next();
                }
                Opt::Code => return None,
                Opt::Named(name) => return Some(name),
                Opt::NamedByNext => return rest.next(),
            }
        } else if argument.starts_with('+') && rules.short_values.contains('O') {
            // A shell's `+o name`.
            if argument.ends_with(['o', 'O']) {
                rest.next();
            }
        } else if verbs.contains(&argument) {
            verbs = &[];
        } else if rules.option_files && argument.starts_with('@') {
            may_be_run = true;
        } else if !argument.is_empty() {
            return (!may_be_run || is_class(argument)).then_some(argument);
        }
    }
    None
}

/// Whether it is a class in a package, as an argument of a program hardly is: `com.shop.Main`.
fn is_class(argument: &str) -> bool {
    let is_name = |part: &str| {
        let mut letters = part.chars();
        let begins = letters.next().is_some_and(|c| c.is_alphabetic() || c == '_' || c == '$');
        begins && letters.all(|c| c.is_alphanumeric() || c == '_' || c == '$')
    };
    // The last part is the class itself, which begins with a capital.
    let capital =
        argument.rsplit('.').next().is_some_and(|class| class.starts_with(char::is_uppercase));
    argument.contains('.') && capital && argument.split('.').all(is_name)
}

enum Opt<'a> {
    Alone,
    TakesNext,
    Code,
    Named(&'a str),
    NamedByNext,
}

fn option<'a>(rules: &Rules, argument: &'a str) -> Opt<'a> {
    let (long, value) = match argument.split_once('=') {
        Some((long, value)) => (long, Some(value)),
        None => (argument, None),
    };
    if rules.long_names.contains(&long) {
        return value.map_or(Opt::NamedByNext, Opt::Named);
    }
    if rules.long_code.contains(&long) {
        return Opt::Code;
    }
    if rules.long_values.contains(&long) {
        return if value.is_none() { Opt::TakesNext } else { Opt::Alone };
    }
    if argument.starts_with("--") {
        return Opt::Alone;
    }
    let letters = argument.strip_prefix('-').unwrap_or(argument);
    for (at, letter) in letters.char_indices() {
        let tail = &letters[at + letter.len_utf8()..];
        if rules.short_code.contains(letter) {
            return Opt::Code;
        }
        if rules.short_names.contains(letter) && (rules.clusters || tail.is_empty()) {
            return if tail.is_empty() { Opt::NamedByNext } else { Opt::Named(tail) };
        }
        if rules.short_values.contains(letter) {
            return if tail.is_empty() { Opt::TakesNext } else { Opt::Alone };
        }
        if !rules.clusters {
            break;
        }
    }
    Opt::Alone
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(executable: &str, line: &str) -> String {
        process_name(executable, &line.split(' ').collect::<Vec<_>>())
    }

    #[test]
    fn an_executable_has_its_own_name() {
        assert_eq!(name("/usr/sbin/nginx", "nginx: master process"), "nginx");
        assert_eq!(name("/srv/app (deleted)", "./app -v"), "app");
        assert_eq!(name("/usr/bin/python-argcomplete", "x y"), "python-argcomplete");
        assert_eq!(process_name("/usr/bin/curl", &[]), "curl");
        assert_eq!(name("/bin/busybox", "nc -l"), "busybox");
    }

    #[test]
    fn scripts_have_theirs() {
        let cases = [
            ("/usr/bin/python3.11", "python3 /srv/app.py --port 80", "app.py"),
            ("/usr/bin/python3", "python3 -u -X dev -W ignore app.py", "app.py"),
            ("/usr/bin/python3", "python3 -m http.server 80", "http.server"),
            ("/usr/bin/python3", "python3 -um gunicorn app", "gunicorn"),
            ("/usr/bin/python3", "python3 -mgunicorn app", "gunicorn"),
            ("/usr/bin/python3", "python3 -c pass x.py", "python3"),
            ("/usr/bin/python3", "python3", "python3"),
            ("/usr/bin/python3", "python3 - x", "python3"),
            ("/usr/bin/perl", "perl -w -I lib server.pl", "server.pl"),
            ("/usr/bin/perl5.36", "perl -ne print x", "perl5.36"),
            ("/usr/bin/ruby3.1", "ruby -rbundler/setup bin/puma -p 1", "puma"),
            (
                "/usr/bin/node",
                "node --max-old-space-size=9 -r dotenv/config /app/index.js",
                "index.js",
            ),
            ("/usr/bin/node", "node --eval code", "node"),
            ("/bin/bash", "/bin/bash -eu -o pipefail ./run.sh x", "run.sh"),
            ("/bin/bash", "bash -lc sleep", "bash"),
            ("/bin/dash", "sh -- -odd.sh", "-odd.sh"),
            ("/bin/dash", "-sh", "dash"),
            ("/bin/busybox", "/bin/sh /run.sh", "run.sh"),
            ("/usr/bin/php8.2", "php -d a=b -S [::]:80 router.php", "router.php"),
            ("/usr/bin/php8.2", "php -f worker.php", "worker.php"),
            ("/usr/lib/jvm/bin/java", "java -Xmx1g -Dp=q -jar /opt/shop.jar --port=1", "shop.jar"),
            (
                "/usr/lib/jvm/bin/java",
                "java -cp a.jar:b.jar com.example.Main x",
                "com.example.Main",
            ),
            ("/usr/lib/jvm/bin/java", "java @/etc/jvm.options -jar shop.jar", "shop.jar"),
            ("/usr/lib/jvm/bin/java", "java @/etc/jvm.options com.shop.Main 80", "com.shop.Main"),
            // What is run may be in the file.
            ("/usr/lib/jvm/bin/java", "java @/etc/shop.args 8080", "java"),
            ("/usr/lib/jvm/bin/java", "java @/etc/shop.args serve shop.properties", "java"),
            ("/usr/lib/jvm/bin/java", "java @/etc/shop.args shop.properties", "java"),
            ("/usr/bin/ruby3.1", "ruby -S bundle exec", "bundle"),
            ("/usr/bin/dotnet", "dotnet /app/Shop.dll", "Shop.dll"),
            ("/usr/bin/dotnet", "dotnet exec --depsfile d Shop.dll", "Shop.dll"),
            ("/usr/bin/deno", "deno run --allow-net main.ts", "main.ts"),
        ];
        for (executable, line, expected) in cases {
            assert_eq!(name(executable, line), expected, "{line}");
        }
    }

    #[test]
    fn a_title_has_the_name_of_who_wrote_it() {
        let cases = [
            ("gunicorn: master [shop]", "gunicorn"),
            ("puma 5.6.5 (tcp://[::]:3000) [shop]", "puma"),
            ("[celeryd: celery@a:MainProcess] -active-", "celeryd"),
            ("python3", "python3.11"),
            ("python3: ", "python3.11"),
            ("/srv/app.py: x", "python3.11"),
            ("", "python3.11"),
        ];
        for (title, expected) in cases {
            assert_eq!(process_name("/usr/bin/python3.11", &[title]), expected, "{title}");
        }
        assert_eq!(process_name("/usr/sbin/nginx", &["worker: process"]), "nginx");
    }

    proptest! {
        #[test]
        fn never_panics(
            interpreter in "(/bin/)?(python3|perl|bash|node|java|php|deno|busybox|x)",
            arguments in prop::collection::vec("(-{0,2}|\\+)[a-zé=/ ]{0,6}", 0..6),
        ) {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            prop_assert!(!process_name(&interpreter, &arguments).is_empty());
        }
    }
}
