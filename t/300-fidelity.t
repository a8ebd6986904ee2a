# SPDX-License-Identifier: Apache-2.0
# Warm bash is bash: each script of t/fidelity/*.sh runs as a fork of the warm bash and as an exec'ed
# `bash -c`, in equal namespaces; stdout, stderr, exit code, signal and the files left are equal.
# Brood::Pair lists the differences that are allowed.
#
# A table is text: a line `### name` begins a script, `### name <text` gives it that stdin (\n is a
# newline); it ends before the next one, without its last newline. ONLY=regex runs some of them.
use lib 't/lib';
use Brood;
use Brood::Pair;
use Encode qw(decode_utf8);

my $only = $ENV{ONLY} // '';
my @scripts; # [name, command, more fields of the request]

sub script {
    push @scripts, [@_] if $_[0] =~ /(?:$only)/;
}

my %seen;
for my $table (sort glob 't/fidelity/*.sh') {
    my ($head, @parts) = split /^### (.*)\n/m, decode_utf8(slurp($table));
    my ($topic) = $table =~ m{([^/]+)\.sh$};
    while (my ($line, $cmd) = splice @parts, 0, 2) {
        my ($name, $stdin) = split / </, $line, 2;
        BAIL_OUT("two scripts are called $topic: $name") if $seen{"$topic $name"}++;
        $cmd =~ s/\n\z//;
        script("$topic: $name", $cmd, defined $stdin ? (stdin => $stdin =~ s/\\n/\n/gr) : ());
    }
}

# What a text file cannot hold.
script('form: empty', '');
script('form: one newline', "\n");
script('form: blanks', " \t \n \n");
script('form: a comment only', '# nothing');
script('form: ends with a newline', "echo a\n\n\n");
script('form: ends with a backslash', 'echo a\\');
script('form: ends with a backslash and newline', "echo a\\\n");
script('form: ends with a comment', 'echo a # b');
script('form: CRLF', "echo a\r\nif true; then\r\necho b\r\nfi\r\n");
script('form: CRLF in words', "x=a\r\necho \"\$x\" | od -c\r\n");
script('form: control bytes', join '', 'printf %s "', (map { chr } 1 .. 8, 11 .. 31, 127), '" | od -c');
script('form: UTF-8', "\x{e4}=1; echo '\x{20ac} \x{1f600}' | wc -m; x='\x{20ac}\x{e4}'; echo \${#x} \${x:1}");
script('form: 100 KiB in one line', 'x="' . 'a' x 100_000 . '"; echo ${#x} $LINENO');
script('form: 5000 lines', join("\n", map { "x=$_" } 1 .. 5000) . "\necho \$x \$LINENO");
script('form: 2000 nested groups', '(' x 40 . 'echo $BASH_SUBSHELL' . ')' x 40);
script('form: leading dash', '-c echo a');
script('form: 64 KiB of stdin', 'wc -c; cat | wc -c', stdin => 'x' x 65_536);
script('env: a variable', 'echo "$A"; declare -p A; env | grep ^A=; unset A; env | grep -c ^A=', env => {A => 'b c'});
script('env: names bash knows', 'echo "$EDITOR $TZ $LC_ALL $LANG"; date -d @0 +%H; printf "%(%H)T\n" 0',
    env => {EDITOR => 'vi', TZ => 'Asia/Tokyo', LC_ALL => 'C'});
script('env: HOME and PATH', 'echo ~ "$PATH"; cd; pwd; ls', env => {HOME => '/tmp', PATH => '/bin'});
script('env: no identifier', 'env | grep -a "a.b"; declare -p | grep -c "a\.b"', env => {'a.b' => '1'});
script('env: LC_ALL', 'x=$(printf "\303\244"); echo ${#x}; [[ $x == ? ]]; echo $?', env => {LC_ALL => 'C'});
my %odd = (SHELL => '/bin/sh', TERM => 'vt100', LOGNAME => 'l', CDPATH => '/tmp', TMOUT => '9', FUNCNEST => '7', PS1 => 'p> ',
    TIMEFORMAT => '%R', COLUMNS => '40', LINES => '9', IGNOREEOF => '3', HISTSIZE => '5', HISTFILE => '/tmp/h', HISTCONTROL => 'x',
    LC_NUMERIC => 'C', LANG => 'C', LANGUAGE => 'de', TMPDIR => '/tmp', MAIL => '/m', EXECIGNORE => '*x', FIGNORE => '.o', PS2 => '',
    HOSTFILE => '/h', INPUTRC => '/i', TEXTDOMAIN => 't', auto_resume => '1', histchars => '!^#', ignoreeof => '2', EMACS => 't',
    CHILD_MAX => '20', MALLOC_CHECK_ => '0', LC_ALL => '', ROWS => '() { :; }', 'a[0]' => '1', 'x%%' => '() { echo f; }',
    '1a' => 'b', 'a-b' => 'c', COMPREPLY => 'r', MAPFILE => 'm', REPLY => 'y', COPROC => 'c', PERL5LIB => '/p');
for my $name (sort keys %odd) {
    script("env: $name", "echo \"\${$name}\"; declare -p $name; set -o | grep on\$; shopt -s | md5sum; echo \$-; time :; cd /; mktemp | cut -c1-5",
        env => {$name => $odd{$name}});
    script("env: $name, all of it", 'declare -p | grep -v "RANDOM\\|EPOCH\|PID"; set | grep -v "RANDOM\|EPOCH\|PID"; env | sort; export -p; no_such_cmd',
        env => {$name => $odd{$name}, other => 'a b'});
}
my %all = %odd;
script('env: many at once', 'declare -p | grep -v "RANDOM\|EPOCH\|PID"; env; bash -c env', env => \%all);
script('env: order and export', 'env | sort', env => {ZZ => '1', AA => '', USER => 'other'});
script('cwd: below home', 'pwd; echo "$PWD" "$OLDPWD"; declare -p PWD OLDPWD; cd ..; cd -', cwd => '/work');
script('cwd: /tmp', 'pwd; declare -p PWD OLDPWD; env | grep PWD; cd - ; dirs', cwd => '/tmp');
script('limit: cpu', 'ulimit -t');

for my $memory (qw(fresh recycled)) {
    my $pair = Brood::Pair->start($memory);
    for (@scripts) {
        my ($name, @rest) = @$_;
        $pair->same("$memory: $name", @rest);
    }
    $pair->stop;
}
done_testing;
