# SPDX-License-Identifier: Apache-2.0
# Input is never code: whatever stands in stdin, in a value of the environment, in cwd or in the request's id, only cmd is run -
# however the command ends, breaks off, or leaves its input unread.
use lib 't/lib';
use Brood;

my $brood = Brood->start;
my $code = "touch /work/pwned; echo PWNED\n";
my %commands = (
    'nothing' => '', 'a space' => ' ', 'a comment' => '# nothing', 'true' => 'true', 'an exit' => 'exit 0', 'an open quote' => 'echo "abc', 'an open single quote' => "echo 'abc", 'an open command' => 'echo $(', 'an open group' => '{ echo a;',
    'an open if' => 'if true; then', 'an open here-document' => "cat <<EOF >/dev/null\nabc", 'a here-document without an end' => 'cat <<EOF >/dev/null', 'a backslash at the end' => 'echo a \\', 'a pipe at the end' => 'echo a |', 'and at the end' => 'true &&',
    'a syntax error' => ')', 'read, of one line' => 'read -r x', 'head' => 'head -c 3 >/dev/null', 'cat' => 'cat >/dev/null', 'eval of nothing' => 'eval', 'dot of nothing' => '.', 'source of a missing file' => 'source /nonexistent',
    'exec with a closed stdin' => 'exec <&-; true', 'exec of true' => 'exec true', 'set -e and false' => 'set -e; false', 'select' => 'select x in a b; do break; done', 'mapfile' => 'mapfile -t a', 'an alias' => 'shopt -s expand_aliases; alias x=', 'a trap' => 'trap "true" EXIT', 'wait' => 'wait',
    'set -o history' => 'set -o history; fc -l', 'an option' => 'set -x', 'posix' => 'set -o posix', 'interactive comments' => 'shopt -u interactive_comments', 'command not found' => 'nosuchcommand', 'shift' => 'shift 5', 'unset' => 'unset -f x', 'a job' => 'sleep 0.001 &',
);
for my $what (sort keys %commands) {
    for my $stdin ($code x 3, "EOF\n$code", "'\"`)\n;fi;}\n$code") {
        my $r = $brood->sh(mallory => $commands{$what}, stdin => $stdin, timeout => 5);
        next if $r->{http} =~ /^(?:200|400)$/ && $r->{stdout} !~ /PWNED/ && $r->{reason} !~ /^(?:timeout|internal)$/;
        fail("$what: $r->{http} $r->{reason} $r->{stdout}");
    }
}
is($brood->find('pwned'), undef, scalar(keys %commands) . ' commands left their stdin alone');
is($brood->sh(mallory => 'cat', stdin => $code)->{stdout}, $code, 'control: it was there to be read');
is($brood->sh(mallory => 'bash', stdin => "echo by request\n")->{stdout}, "by request\n", 'control: a shell that is asked to runs it');
$brood->recycle('mallory');
is($brood->sh(mallory => 'true', stdin => $code)->{stdout}, '', 'a recycled shell ignores it, too');

# The same text in every other field.
my ($status, $json) = $brood->execute({namespace_id => 'mallory', cmd => 'true', cwd => '$(touch /work/pwned)'});
is($status, 400, 'a cwd of code is a directory that is not there');
$brood->sh(mallory => 'mkdir -p \'$(touch ~/pwned)\' "\`touch ~/pwned\`" "; touch ~/pwned #"');
for my $cwd ('$(touch ~/pwned)', '`touch ~/pwned`', '; touch ~/pwned #') {
    my $r = $brood->sh(mallory => 'pwd; PS1="\w$ "; echo "${PS1@P}" >/dev/null; cd . && cd "$OLDPWD"; true', cwd => $cwd);
    is((split /\n/, $r->{stdout})[0], "/work/$cwd", "the directory $cwd is a name");
}
$brood->execute({namespace_id => 'mallory', cmd => 'true'}, headers => {'X-Request-Id' => '$(touch /work/pwned)'});
($status) = $brood->execute({namespace_id => '$(id)', cmd => 'true'});
is($status, 400, 'a namespace of code is no namespace');
# Values that bash would evaluate if it took them for numbers, array elements or prompts of its own.
my %values = (x => 'a[$(touch /work/pwned)]', HISTTIMEFORMAT => '$(touch /work/pwned)', OPTIND => 'a[$(touch /work/pwned)]', HISTSIZE => 'a[$(touch /work/pwned)]', COLUMNS => 'a[$(touch /work/pwned)]', TIMEFORMAT => '$(touch /work/pwned)',
    CHILD_MAX => 'a[$(touch /work/pwned)]', FUNCNEST => 'a[$(touch /work/pwned)]', TMOUT => 'a[$(touch /work/pwned)]', HISTCONTROL => 'ignorespace', PROMPT_DIRTRIM => '1', COPROC => 'x', MAILPATH => '/etc/passwd?$(touch /work/pwned)');
for my $name (sort keys %values) {
    my $r = $brood->sh(mallory => 'time true; f() { :; }; f; echo ok', env => {$name => $values{$name}});
    ok($r->{http} == 400 || $r->{stdout} eq "ok\n", "$name is taken as text or refused ($r->{http})") or diag($r->{stdout}, $r->{stderr});
}
is($brood->find('pwned'), undef, 'nothing of all that was run');

$brood->stop;
done_testing;
