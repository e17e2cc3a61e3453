//! The texts, and how each quotes words. Pure. No word here holds a control character.

use super::Every;

/// What is to be run, and when.
pub struct Job {
    pub name: String,
    pub every: Every,
    /// Where it runs.
    pub directory: String,
    /// The program and its arguments.
    pub words: Vec<String>,
}

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Systemd,
    Cron,
    Launchd,
}

/// A file.
pub struct Unit {
    pub name: String,
    pub text: String,
}

/// The files that make `job` run.
pub fn files(kind: Kind, job: &Job) -> Vec<Unit> {
    match kind {
        Kind::Systemd => vec![
            Unit { name: format!("nfz-{}.service", job.name), text: service(job) },
            Unit { name: format!("nfz-{}.timer", job.name), text: timer(job) },
        ],
        Kind::Cron => vec![Unit { name: "crontab".into(), text: cron(job) }],
        Kind::Launchd => vec![Unit { name: format!("{}.plist", label(job)), text: launchd(job) }],
    }
}

/// What is done with them.
pub fn advice(kind: Kind, job: &Job) -> String {
    let name = &job.name;
    match kind {
        Kind::Systemd => format!(
            "Put both into ~/.config/systemd/user, then: systemctl --user daemon-reload; systemctl --user enable --now nfz-{name}.timer\n\
             It runs while you are logged in; always, after: loginctl enable-linger"
        ),
        Kind::Cron => "Add the line with crontab -e".into(),
        Kind::Launchd => {
            format!(
                "Put it into ~/Library/LaunchAgents, then: launchctl load -w ~/Library/LaunchAgents/{}.plist",
                label(job)
            )
        }
    }
}

fn service(job: &Job) -> String {
    // By env: WorkingDirectory= and the program's own path have other rules than words have.
    let words = ["/usr/bin/env".to_owned(), format!("--chdir={}", job.directory)];
    let words: Vec<String> = words.iter().chain(&job.words).map(|word| systemd_word(word)).collect();
    let name = &job.name;
    format!(
        "# nfz-{name}.service\n[Unit]\nDescription=nfz: {name}\n\n[Service]\nType=oneshot\nExecStart={}\n\
         # Another run was under way: --one-at-a-time.\nSuccessExitStatus=7\n",
        words.join(" ")
    )
}

fn timer(job: &Job) -> String {
    let name = &job.name;
    format!(
        "# nfz-{name}.timer\n[Unit]\nDescription=nfz: {name}\n\n[Timer]\nOnCalendar={}\n\
         # What was missed while the machine was off is made up for.\nPersistent=true\n\n[Install]\nWantedBy=timers.target\n",
        calendar(job.every)
    )
}

fn calendar(every: Every) -> String {
    match every {
        Every::Minutes(minutes) => format!("*:00/{minutes}:00"),
        Every::Hours(1) => "hourly".into(),
        Every::Hours(hours) => format!("*-*-* 00/{hours}:00:00"),
        Every::DailyAt(minute) => format!("*-*-* {:02}:{:02}:00", minute / 60, minute % 60),
        Every::Weekly => "weekly".into(),
        Every::Monthly => "monthly".into(),
    }
}

/// A word as systemd.service(5) reads it in ExecStart=: in quotes, where `\` escapes, `$` stands for variables and `%` for specifiers.
fn systemd_word(word: &str) -> String {
    let escape = |c: char| match c {
        '\\' => "\\\\".to_owned(),
        '"' => "\\\"".to_owned(),
        '$' => "$$".to_owned(),
        '%' => "%%".to_owned(),
        c => c.to_string(),
    };
    format!("\"{}\"", word.chars().map(escape).collect::<String>())
}

fn cron(job: &Job) -> String {
    let words: Vec<String> = job.words.iter().map(|word| cron_word(word)).collect();
    format!("{} cd {} && exec {}\n", crontab_time(job.every), cron_word(&job.directory), words.join(" "))
}

fn crontab_time(every: Every) -> String {
    match every {
        Every::Minutes(minutes) => format!("*/{minutes} * * * *"),
        Every::Hours(1) => "0 * * * *".into(),
        Every::Hours(hours) => format!("0 */{hours} * * *"),
        Every::DailyAt(minute) => format!("{} {} * * *", minute % 60, minute / 60),
        Every::Weekly => "0 0 * * 1".into(),
        Every::Monthly => "0 0 1 * *".into(),
    }
}

/// A word in quotes for sh, that gets past cron: `%` ends a command there unless a backslash stands before it, and some crons take
/// two backslashes for one, so that no two stand together.
fn cron_word(word: &str) -> String {
    let escape = |c: char| match c {
        '\'' => "'\"'\"'".to_owned(),
        '\\' => "\\''".to_owned(),
        '%' => "\\%".to_owned(),
        c => c.to_string(),
    };
    format!("'{}'", word.chars().map(escape).collect::<String>())
}

fn label(job: &Job) -> String {
    format!("nfz.{}", job.name)
}

fn launchd(job: &Job) -> String {
    let string = |text: &str| format!("<string>{}</string>", xml(text));
    let words: Vec<String> = job.words.iter().map(|word| format!("    {}\n", string(word))).collect();
    let head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
                \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n<plist version=\"1.0\">\n<dict>\n";
    format!(
        "{head}  <key>Label</key>\n  {}\n  <key>ProgramArguments</key>\n  <array>\n{}  </array>\n  <key>WorkingDirectory</key>\n  {}\n{}</dict>\n</plist>\n",
        string(&label(job)),
        words.concat(),
        string(&job.directory),
        launchd_time(job.every)
    )
}

fn launchd_time(every: Every) -> String {
    let at = |fields: &[(&str, u16)]| {
        let fields: Vec<String> = fields
            .iter()
            .map(|(key, value)| format!("    <key>{key}</key>\n    <integer>{value}</integer>\n"))
            .collect();
        format!("  <key>StartCalendarInterval</key>\n  <dict>\n{}  </dict>\n", fields.concat())
    };
    let each = |seconds: u32| format!("  <key>StartInterval</key>\n  <integer>{seconds}</integer>\n");
    match every {
        Every::Minutes(minutes) => each(u32::from(minutes) * 60),
        Every::Hours(1) => at(&[("Minute", 0)]),
        Every::Hours(hours) => each(u32::from(hours) * 3600),
        Every::DailyAt(minute) => at(&[("Hour", minute / 60), ("Minute", minute % 60)]),
        Every::Weekly => at(&[("Weekday", 1), ("Hour", 0), ("Minute", 0)]),
        Every::Monthly => at(&[("Day", 1), ("Hour", 0), ("Minute", 0)]),
    }
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    fn job(words: &[String], directory: &str) -> Job {
        Job { name: "x".into(), every: Every::Hours(1), directory: directory.to_owned(), words: words.to_vec() }
    }

    /// Reads a line as systemd does: words in quotes, C escapes, then specifiers, then variables.
    fn read_systemd(line: &str) -> Vec<String> {
        let (mut words, mut rest) = (Vec::new(), line.chars().peekable());
        while rest.peek().is_some() {
            assert_eq!(rest.next(), Some('"'), "{line}");
            let mut word = String::new();
            loop {
                match rest.next().unwrap() {
                    '"' => break,
                    '\\' => word.push(rest.next().unwrap()),
                    doubled @ ('%' | '$') => {
                        assert_eq!(rest.next(), Some(doubled), "{line}");
                        word.push(doubled);
                    }
                    c => word.push(c),
                }
            }
            assert!(matches!(rest.next(), None | Some(' ')), "{line}");
            words.push(word);
        }
        words
    }

    /// What cron hands to sh: up to the first bare `%`. Some crons drop a backslash before a backslash, too.
    fn read_cron(line: &str, also_backslashes: bool) -> String {
        let (mut command, mut escaped) = (String::new(), false);
        for c in line.splitn(6, ' ').nth(5).unwrap().chars() {
            if escaped && (c == '%' || (c == '\\' && also_backslashes)) {
                command.pop();
            }
            assert!(escaped || c != '%', "{line}");
            command.push(c);
            escaped = c == '\\' && !escaped;
        }
        command
    }

    fn words() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("[ -~äß€]{0,12}|[\\\\%'\"$ ;&<>]{0,8}", 1..5)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn systemd_gets_the_words_that_were_given(words in words(), directory in "/[ -~ä]{0,12}") {
            let text = service(&job(&words, &directory));
            let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
            let read = read_systemd(line);
            prop_assert_eq!(&read[..2], &["/usr/bin/env".to_owned(), format!("--chdir={directory}")]);
            prop_assert_eq!(&read[2..], &words[..]);
        }

        #[test]
        fn every_cron_and_sh_get_the_words_that_were_given(words in words()) {
            let printed = [vec!["printf".to_owned(), "%s\\n".to_owned()], words.clone()].concat();
            let line = cron(&job(&printed, "/"));
            prop_assert_eq!(line.trim_end_matches('\n').lines().count(), 1);
            for also_backslashes in [false, true] {
                let command = read_cron(line.trim_end_matches('\n'), also_backslashes);
                // A builtin cannot be exec'd everywhere; the words are what counts.
                let output = Command::new("sh").arg("-c").arg(&command).output().unwrap();
                let expected: String = words.iter().map(|word| format!("{word}\n")).collect();
                prop_assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{}", command);
            }
        }

        #[test]
        fn launchd_gets_the_words_that_were_given(words in words(), directory in "/[ -~ä]{0,12}") {
            let text = launchd(&job(&words, &directory));
            let strings: Vec<String> = text.split("<string>").skip(1).map(|part| {
                let text = part.split("</string>").next().unwrap();
                prop_assert!(!text.contains(['<', '>']));
                Ok(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
            }).collect::<Result<_, TestCaseError>>()?;
            prop_assert_eq!(&strings[1..strings.len() - 1], &words[..]);
            prop_assert_eq!(strings.last(), Some(&directory));
        }
    }

    #[test]
    fn each_says_when_in_its_own_words() {
        let every = [Every::Minutes(15), Every::Hours(1), Every::Hours(6), Every::DailyAt(150), Every::Weekly];
        assert_eq!(every.map(calendar), ["*:00/15:00", "hourly", "*-*-* 00/6:00:00", "*-*-* 02:30:00", "weekly"]);
        assert_eq!(every.map(crontab_time), ["*/15 * * * *", "0 * * * *", "0 */6 * * *", "30 2 * * *", "0 0 * * 1"]);
        assert!(launchd_time(Every::DailyAt(150)).contains("<integer>30</integer>"));
        assert!(launchd_time(Every::Hours(6)).contains("<integer>21600</integer>"));
    }
}
