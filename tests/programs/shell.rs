//! A shell pipeline: several processes, pipes between them with data on its way.

use rtc_tests::Container;

#[test]
fn shell_pipeline_keeps_its_data() {
    let (mut container, shell) = Container::shell("shell", |bundle| bundle);
    // Three filters; the last holds a count, and each may hold a line that it has not passed on yet.
    let mark = "while read line; do echo \"<$line>\"; done";
    let count = "n=0; while read line; do n=$((n + 1)); echo \"$n $line\"; done";
    let pipeline = format!("{{ {mark} | sed -u s/a/A/ | {{ {count}; }}; }}");
    let mut talk = container.client(&shell, "pipeline", &pipeline);
    talk.ask("alpha", "1 <Alpha>");
    let mut count = 1;
    container.lives_through_checkpoints(|_, when| {
        count += 1;
        // The line number is the state of the last process of the pipeline.
        talk.ask(&format!("beta {when}"), &format!("{count} <betA {when}>"));
    });
}

#[test]
fn shell_background_jobs_and_variables_stay() {
    let (mut container, mut shell) = Container::shell("jobs", |bundle| bundle);
    shell.say("word=kept; cd /var; trap 'echo caught' USR1");
    shell.say("tail -f /dev/null & one=$!; sleep 100000 & two=$!");
    shell.ask("echo set", "set");
    container.lives_through_checkpoints(|_, _| {
        shell.ask("kill -0 $one $two && echo $word $(pwd)", "kept /var");
        shell.ask("trap", "USR1");
    });
}
