# SPDX-License-Identifier: Apache-2.0
# Code, stages, fresh namespaces, files and artifacts over the engine's socket. The languages are bash with other names,
# so that every machine has them.
use lib 't/lib';
use Brood;
use Brood::Wire;
use File::Temp qw(tempdir);
use Time::HiRes qw(time);

use constant {OK => 0, BAD_REQUEST => 1, QUEUE_FULL => 2, QUEUE_TIMEOUT => 3, NOT_FOUND => 6, INTERNAL => 8};
use constant {EXIT => 0, TIMEOUT => 2, CPU_LIMIT => 3, OOM => 4, CANCELLED => 8};

require_layer('root', 'cgroup', 'python3');
my $languages = tempdir(CLEANUP => 1);
chmod 0755, $languages;
spew("$languages/plain.yaml", <<'END');
name: plain
aliases: [pl.ain]
source: main.sh
version: [bash, --version]
run: {argv: [bash, "{source}"]}
env: {FROM_LANGUAGE: "1", GREETING: language}
END
spew("$languages/two.yaml", <<'END');
name: two
source: main.sh
version: [bash, -c, "echo v1.2.3-beta"]
compile:
  argv: [bash, -c, 'echo compiling; echo "warning" >&2; [ -e slow ] && sleep 60; { echo "# program"; cat "$1"; } >"$2/program"; bash -n "$1"', two, "{source}", "{dir}"]
  timeout_ms: 3000
run: {argv: [bash, "{dir}/program"]}
END
spew("$languages/absent.yaml", "name: absent\nsource: a\nversion: [no-such-program]\nrun: {argv: [no-such-program, \"{source}\"]}\n");
my $brood = Brood->start('languages-dir' => $languages, 'namespaces-fresh' => '16M', 'limits-memory' => '128M', 'limits-tmp' => '16M',
    'limits-cpu-percent' => 0);
my $wire = Brood::Wire->new($brood);

subtest 'what a language is' => sub {
    my $known;
    ok(until_true(20, sub { my $w = Brood::Wire->new($brood); $known = $w->hello; $w->close; $known->{two}{version} }), 'versions are asked for');
    is_deeply($known->{two}, {aliases => [], version => '1.2.3', available => 1, compiles => 1}, 'one that compiles');
    is_deeply($known->{plain}{aliases}, ['pl.ain'], 'aliases');
    is($known->{absent}{available}, 0, 'one whose program is not there');
    my $r = $wire->run(kind => 'code', language => 'absent', code => '');
    is_deeply([@$r{qw(outcome field)}], [BAD_REQUEST, 'language'], "is refused: $r->{text}");
    $r = $wire->run(kind => 'code', language => 'cobol', code => '');
    is_deeply([@$r{qw(outcome field)}], [BAD_REQUEST, 'language'], "as is what nobody knows: $r->{text}");
    like($r->{text}, qr/absent, plain, two/, 'which names those there are');
    is($wire->run(kind => 'code', language => 'PL.AIN', code => 'echo hi')->{stdout}, "hi\n", 'an alias, in any case of letters');
};

subtest 'one stage' => sub {
    my %code = (kind => 'code', language => 'plain');
    my $r = $wire->run(%code, code => 'echo "$0 $# [$2] $PWD $GREETING $FROM_LANGUAGE"; cat; exit 3', args => ['a', 'b c', ''], stdin => "in\n",
        env => {GREETING => 'request'});
    is($r->{stdout}, "main.sh 3 [b c] /work request 1\nin\n", 'source, arguments, stdin, environment, working directory');
    is_deeply([@$r{qw(outcome reason exited exit_code)}], [OK, EXIT, 1, 3], 'how it ended');
    is(scalar @{$r->{stages}}, 1, 'one stage');
    is_deeply([@{$r->{stages}[0]}{qw(name reason exited exit_code)}], ['run', EXIT, 1, 3], 'with the same facts');
    is_deeply([@$r{qw(compiler_out compiler_err)}], ['', ''], 'no compiler said anything');
    $r = $wire->run(%code, code => 'echo "$0"', cwd => '/tmp');
    is($r->{stdout}, "/work/main.sh\n", 'another working directory: the source is found all the same');
    $r = $wire->run(%code, code => 'cat in/put; ls', places => {'in/put' => "placed\n"});
    is($r->{stdout}, "placed\nin\nmain.sh\n", 'a file is placed');
    $r = $wire->run(%code, code => 'cat f16', places => {map { ("f$_" => "$_\n") } 1 .. 16});
    is($r->{stdout}, "16\n", 'as many as there may be');
};

subtest 'two stages' => sub {
    my %code = (kind => 'code', language => 'two');
    my $r = $wire->run(%code, code => 'echo ran "$@"; exit 4', args => ["1", "2"]);
    is_deeply([@$r{qw(stdout stderr compiler_out compiler_err)}], ["ran 1 2\n", '', "compiling\n", "warning\n"], 'each has its output');
    is_deeply([map { [@$_{qw(name reason exit_code)}] } @{$r->{stages}}], [['compile', EXIT, 0], ['run', EXIT, 4]], 'and its facts');
    is($r->{exit_code}, 4, 'those of the whole are the last one\'s');
    ok($r->{stages}[0]{wall_us} > 0 && $r->{wall_us} == $r->{stages}[1]{wall_us}, 'wall clocks of their own');
    $r = $wire->run(%code, code => "if\n");
    is_deeply([map { [@$_{qw(name exit_code)}] } @{$r->{stages}}], [['compile', 2]], 'what does not compile does not run');
    like($r->{compiler_err}, qr/syntax error/, 'the compiler says why');
    is_deeply([@$r{qw(stdout stderr outcome exit_code)}], ['', '', OK, 2], 'and the program nothing');
    my $begin = time;
    $r = $wire->run(%code, code => 'echo no', places => {slow => ''});
    is_deeply([$r->{reason}, map { $_->{name} } @{$r->{stages}}], [TIMEOUT, 'compile'], 'a compiler has its own deadline');
    cmp_ok(time - $begin, '<', 8, 'and ends by it');
    cmp_ok($r->{stages}[0]{wall_us}, '>', 2_900_000, 'not before');
    $r = $wire->run(%code, code => 'ulimit -t', cpu => 3000);
    is($r->{stdout}, "3\n", 'the limits of the request are the program\'s');
};

subtest 'in a namespace' => sub {
    my %code = (kind => 'code', ns => 'alice', language => 'two');
    is($wire->run(ns => 'alice', cmd => 'echo mine >main.sh; echo lib >module')->{outcome}, OK, 'a tenant\'s files');
    is($wire->run(%code, code => 'echo "$0 $PWD"; cat module')->{stdout}, ".run/program /work\nlib\n", 'beside which code runs');
    is($wire->run(ns => 'alice', cmd => 'cat main.sh; ls .run')->{stdout}, "mine\nmain.sh\nprogram\n", 'without touching them');
    $wire->run(ns => 'alice', cmd => 'touch .run/old');
    is($wire->run(kind => 'code', ns => 'alice', language => 'plain', code => 'ls .run')->{stdout}, "main.sh\n", 'each finds its directory empty');
    my @tags = ($wire->send(%code, code => 'echo $BASHPID >>log; echo first >>log'), $wire->send(ns => 'alice', cmd => 'echo second >>log'),
        $wire->send(%code, code => 'echo third >>log'));
    $wire->result($_) for @tags;
    like($wire->run(ns => 'alice', cmd => 'cat log')->{stdout}, qr/^\d+\nfirst\nsecond\nthird\n$/, 'nothing comes between two stages');
    my $r = $wire->run(%code, code => 'exit 0', memory => 64 << 20);
    is_deeply([map { [@$_{qw(name exit_code)}] } @{$r->{stages}}], [['compile', 0], ['run', 0]], 'other limits for the second stage');
};

subtest 'commands with arguments and files' => sub {
    for my $ns ('', 'args') {
        my $r = $wire->run(ns => $ns, cmd => 'echo "$# $1|$2|$3"; cat d/e', args => ['a b', '', '$x'], places => {'d/e' => "content\n"});
        is($r->{stdout}, "3 a b||\$x\ncontent\n", $ns ? 'in a namespace' : 'in a fresh one');
    }
    for ([{drop => 1}, 'one too few'], [{extra => 1}, 'one too many']) {
        is($wire->run(ns => 'args', cmd => 'true', places => {x => 'y'}, %{$_->[0]})->{outcome}, BAD_REQUEST, "descriptors: $_->[1]");
        is($wire->run(kind => 'code', language => 'plain', code => '', %{$_->[0]})->{outcome}, BAD_REQUEST, "of code: $_->[1]");
    }
    my $r = $wire->run(ns => 'args', cmd => 'x' x 131000, env => {map { ("V$_" => 'v' x 2040) } 1 .. 31}, args => ['a' x 32000]);
    is_deeply([@$r{qw(outcome field)}], [BAD_REQUEST, 'args'], "too long all together: $r->{text}");
};

subtest 'fresh namespaces' => sub {
    my @volumes = $brood->volumes;
    is($wire->run(cmd => 'echo x >file; hostname; pwd; df --output=size -BM /work | tail -n 1 | tr -d " "; stat -f -c %T /work')->{stdout},
        "fresh\n/work\n16M\ntmpfs\n", 'an empty home of its size, in memory');
    is($wire->run(cmd => 'ls -A')->{stdout}, '', 'each is empty');
    is_deeply([$brood->volumes], \@volumes, 'nothing of it is on disk');
    my $r = $wire->run(cmd => 'head -c 20M /dev/zero >big');
    ok($r->{exit_code} != 0 && $r->{stderr} =~ /No space left/, 'its size is limited') or diag(explain($r));
    my @tags = map { $wire->send(cmd => "echo $_ >me; sleep 0.2; cat me; ls | wc -l") } 1 .. 20;
    is(join(',', map { $wire->result($_)->{stdout} =~ s/\n/ /gr } @tags), join(',', map { "$_ 1 " } 1 .. 20), 'twenty at once: each has its own');
    ok(until_true(10, sub { $brood->pids('zygote') <= 8 + 2 + $brood->volumes }), 'all but the pool, and two that are made ahead, are gone afterwards');
    is($wire->run(ns => '.fresh-1', cmd => 'true')->{lost}, 1, 'none can be named');
    $wire = Brood::Wire->new($brood);
};

subtest 'artifacts' => sub {
    my $tag = $wire->send(cmd => 'ls -A outputs; echo made >outputs/a; mkdir outputs/d; echo deep >outputs/d/b; exit 5', work => 1);
    my $r = $wire->result($tag);
    is_deeply([@$r{qw(stdout exit_code collecting)}], ['', 5, 1], 'outputs is empty at first; something is left, whatever the exit code');
    my $files = $wire->artifacts($tag);
    is_deeply([map { [@$_{qw(name content)}] } grep { $_->{kind} eq 'f' } @$files], [['a', "made\n"], ['d/b', "deep\n"]], 'files with their names');
    ok($files->[-1]{last}, 'and an end');
    $wire->hang_up($tag);
    $tag = $wire->send(cmd => 'true', work => 1);
    is($wire->result($tag)->{collecting}, 0, 'nothing left: nothing to wait for');
    is_deeply($wire->artifacts($tag), [], 'its socket is closed');

    $tag = $wire->send(ns => 'art', cmd => 'echo old >outputs/x', work => 1);
    is($wire->result($tag)->{collecting}, 1, 'in a namespace');
    my $next = $wire->send(ns => 'art', cmd => 'echo changed >outputs/x');
    is($wire->artifacts($tag)->[0]{content}, "old\n", 'what is handed over');
    $wire->hang_up($tag);
    $r = $wire->result($next);
    is($r->{exit_code}, 0, 'the next run comes when the reader hangs up');
    $tag = $wire->send(kind => 'code', language => 'two', code => 'echo out >outputs/y', work => 1);
    is($wire->result($tag)->{collecting}, 1, 'of code that was compiled');
    is($wire->artifacts($tag)->[0]{name}, 'y', 'its file');
    $wire->hang_up($tag);
    $tag = $wire->send(kind => 'code', language => 'two', code => "if\n", work => 1);
    is($wire->result($tag)->{collecting}, 0, 'of code that did not compile');
};

subtest 'operations on files' => sub {
    my $r = $wire->run(kind => 'files', ns => 'nobody', files => {op => 4});
    is($r->{outcome}, NOT_FOUND, 'a namespace that does not exist is not made by looking');
    ok(!(grep { $_ eq 'nobody' } $brood->volumes), 'indeed');
    my $tag = $wire->send(kind => 'files', ns => 'alice', files => {op => 4});
    is($wire->result($tag)->{outcome}, OK, 'a list');
    ok((grep { $_->{name} eq 'main.sh' } @{$wire->answers($tag)}), 'which has its files');
};

subtest 'the end of clients and zygotes' => sub {
    for my $language (qw(plain two)) {
        my $w = Brood::Wire->new($brood);
        my %slow = $language eq 'two' ? (places => {slow => ''}) : ();
        $w->send(kind => 'code', language => $language, code => 'sleep 60', timeout => 60000, %slow);
        ok(until_true(10, sub { grep { $_->{name} eq 'sleep' } $brood->processes }), "$language is on");
        $w->close;
        ok(until_true(10, sub { !grep { $_->{name} eq 'sleep' } $brood->processes }), 'and ends with its client');
    }
    my $tag = $wire->send(kind => 'code', language => 'two', code => 'echo no', places => {slow => ''});
    until_true(10, sub { grep { $_->{name} eq 'sleep' } $brood->processes });
    $wire->cancel($tag);
    my $r = $wire->result($tag);
    is_deeply([$r->{reason}, map { $_->{name} } @{$r->{stages}}], [CANCELLED, 'compile'], 'cancelled while it compiles');
    $tag = $wire->send(kind => 'code', language => 'plain', code => 'sleep 60', timeout => 60000);
    my ($sleep) = until_true(10, sub { my ($p) = grep { $_->{name} eq 'sleep' } $brood->processes; $p });
    my ($zygote) = grep { my $at = readlink "/proc/$_/ns/pid"; $at && $at eq readlink "/proc/$sleep->{pid}/ns/pid" } $brood->pids('zygote');
    kill KILL => $zygote;
    is($wire->result($tag)->{outcome}, INTERNAL, 'its zygote is killed: told, and not tried again');
};

subtest 'processor time' => sub {
    my $lost = q(perl -e '$SIG{CHLD} = "IGNORE"; for (1 .. 2) { next if fork; my $i = 0; $i++ while (times)[0] < 0.3; exit } 1 while wait > 0');
    my $r = $wire->run(ns => 'cpu', cmd => $lost);
    cmp_ok($r->{cpu_us}, '>', 550_000, "of children nobody waits for: $r->{cpu_us} us");
    my $begin = time;
    $r = $wire->run(ns => 'cpu', cmd => 'trap "" XCPU; (while :; do :; done) & while :; do :; done', cpu => 600, timeout => 20000);
    is($r->{reason}, CPU_LIMIT, 'two processes have one limit together');
    cmp_ok($r->{cpu_us}, '>=', 590_000, "which is reached: $r->{cpu_us} us");
    cmp_ok($r->{cpu_us}, '<', 900_000, 'and hardly passed');
    is($wire->run(ns => 'cpu', cmd => 'echo next', cpu => 600)->{stdout}, "next\n", 'the next run begins at nothing');
};

$wire->close;
$brood->stop;
done_testing;
