# SPDX-License-Identifier: Apache-2.0
# Environment from a request never turns into code and never changes how the command is read: each such name is
# refused with 400 by name (SECURITY.md), each that is taken is a plain string and nothing else.
use lib 't/lib';
use Brood;

my $brood = Brood->start;
$brood->sh(mallory => 'echo "touch ~/pwned; echo PWNED" > code; echo "void __attribute__((constructor)) f(void) { }" > x.c; cp /usr/lib/x86_64-linux-gnu/libc.so.6 lib.so');
my @refused = (
    ['BASH_FUNC_x%%', '() { echo PWNED; }'], ['BASH_FUNC_ls%%', '() { echo PWNED; }'], ['BASH_FUNC_echo()', '() { echo PWNED; }'], ['BASH_ENV', '/work/code'], ['ENV', '/work/code'],
    ['BASHOPTS', 'expand_aliases'], ['SHELLOPTS', 'xtrace'], ['BASH_XTRACEFD', '1'], ['BASH_COMPAT', '3.1'], ['BASH_LOADABLES_PATH', '/work'], ['BASH_ARGV0', 'x'],
    ['LD_PRELOAD', '/work/lib.so'], ['LD_LIBRARY_PATH', '/work'], ['LD_AUDIT', '/work/lib.so'], ['LD_DEBUG', 'all'], ['LD_BIND_NOW', '1'],
    ['PS4', '$(touch ~/pwned)'], ['PROMPT_COMMAND', 'touch ~/pwned'], ['IFS', 'o'], ['POSIXLY_CORRECT', '1'], ['GLOBIGNORE', '*'], ['SHLVL', '9'], ['PWD', '/etc'], ['OLDPWD', '/etc'], ['UID', '0'],
    ['EUID', '0'], ['PPID', '1'], ['RANDOM', '4'], ['SRANDOM', '4'], ['SECONDS', '4'], ['LINENO', '4'], ['_', 'x'], ['A B', 'x'], ["A\nB", 'x'], ["\x{e4}", 'x'], ['', 'x'], ['A=B', 'x'],
);
my @accepted;
for (@refused) {
    my ($name, $value) = @$_;
    my ($status, $json) = $brood->execute({namespace_id => 'mallory', cmd => 'set -x; ls >/dev/null; x; echo foo bar; touch ran', env => {$name => $value}});
    push @accepted, $name unless $status == 400 && ref $json eq 'HASH' && $json->{error}{message} =~ /env/;
}
is(join(' ', @accepted), '', scalar(@refused) . ' names are refused with 400, naming env');
is($brood->find('ran'), undef, 'none of them ran');
is($brood->find('pwned'), undef, 'no value was executed');

# What is taken: values that look like code, for names that programs know.
my %harmless = (x => '() { echo PWNED; }', FOO => '$(touch ~/pwned)', BAR => '`touch ~/pwned`', 'ARRAY[0]' => 'x', 'A-B' => '() { :; }; touch ~/pwned', 'BAZ%%' => '() { touch ~/pwned; }', EMPTY => '',
    ps4 => '$(touch ~/pwned)', MAILCHECK => '1', MAIL => '$(touch ~/pwned)', PS1 => '$(touch ~/pwned)', PS0 => '$(touch ~/pwned)', TMOUT => '1', HISTFILE => '/work/h', INPUTRC => '/work/code',
    CDPATH => '/etc', EXECIGNORE => '*', FCEDIT => 'touch ~/pwned', GCONV_PATH => '/work', LOCPATH => '/work', LC_ALL => '../../work', TERM => '../../x', TZ => ':/etc/passwd', HOME => '/tmp');
for my $name (sort keys %harmless) {
    my ($status, $json) = $brood->execute({namespace_id => 'mallory', cmd => 'x 2>/dev/null; true; (set -x; true) 2>/dev/null; printf "%s" "$(env | grep -a -c PWNED)" > /dev/null; printf "a b" | { read p q; echo "$p+$q"; }', env => {$name => $harmless{$name}}});
    ok($status == 400 || ($status == 200 && $json->{stdout} eq "a+b\n"), "$name: $status, and no effect on the command") or diag($json->{stdout}, $json->{stderr});
}
is($brood->find('pwned'), undef, 'no value was executed');
my $r = $brood->sh(mallory => 'declare -F; type -t x; printf "%s\n" "$x" "$FOO"; bash -c "type -t x; printf %s \"\$x\""', env => {x => '() { echo PWNED; }', FOO => '$(id)'});
is($r->{stdout}, "() { echo PWNED; }\n\$(id)\n() { echo PWNED; }", 'a value stays a string, also for a shell below');
is($brood->sh(mallory => 'printenv FOO', env => {FOO => "a\nb'\"\\\$x"})->{stdout}, "a\nb'\"\\\$x\n", 'whatever is in it');
is($brood->sh(mallory => 'echo "$PATH"; echo hi', env => {PATH => '/nowhere'})->{stdout}, "/nowhere\nhi\n", 'PATH may be replaced, for the run alone');
is($brood->sh(mallory => 'echo hi | cat; echo "${FOO-none}${x-none}"')->{stdout}, "hi\nnonenone\n", 'the next run has none of it');
# Our own processes never see any of it.
my $mark = 'MARK_OF_MALLORY';
my $conn = $brood->post(mallory => 'touch env-started; sleep 20', env => {$mark => $mark});
$brood->wait_file('env-started');
my @with = grep { (slurp("/proc/$_->{pid}/environ") // '') =~ /$mark/ } $brood->processes;
cmp_ok(scalar @with, '>=', 1, 'control: the run has it in its environment');
is(join(' ', map { $_->{role} } grep { $_->{role} ne 'child' } @with), '', 'none of ours has');
$conn->close;
# Control: outside, without us, such a variable is code.
is(`env 'BASH_FUNC_x%%=() { echo PWNED; }' bash -c x`, "PWNED\n", 'control: an exported function is code for any bash');
my $user = 'setpriv --reuid 1000 --regid 1000 --clear-groups'; # bash takes none from root's environment
like(`env 'PS4=\$(echo PWNED)' $user bash -xc true 2>&1`, qr/^PWNED/, 'control: so is PS4');

$brood->stop;
done_testing;
