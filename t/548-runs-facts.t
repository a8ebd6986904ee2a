# SPDX-License-Identifier: Apache-2.0
# What /execute and /v1/runs promise of a program whatever its language: when it is over, what it used, and which
# languages there are. A language of the operator's is one more file; one without its tools is told so.
use lib 't/lib';
use Brood;
use File::Temp qw(tempdir);
use Mojo::JSON qw(encode_json);
use Time::HiRes qw(time);

my $languages = tempdir(CLEANUP => 1);
chmod 0755, $languages;
spew("$languages/bash.yaml", slurp(Brood->root . '/etc/languages.d/bash.yaml'));
spew("$languages/awk.yaml", qq(name: awk\naliases: [mawk]\nsource: main.awk\nversion: [awk, -W, version]\nrun: {argv: [awk, -f, "{source}"]}\n));
spew("$languages/cobol.yaml", qq(name: cobol\nsource: a\nversion: [no-such-program]\nrun: {argv: [no-such-program, "{source}"]}\n));
# The code is the compiler's script, too: it says what "compiling" does.
spew("$languages/script.yaml", <<'END');
name: script
source: main.sh
version: [bash, -c, "echo v1.0"]
compile: {argv: [bash, "{source}", compile], timeout_ms: 30000}
run: {argv: [bash, "{source}", run]}
END
my $brood = Brood->start('languages-dir' => $languages);

sub ask {
    my ($method, $path, $body) = @_;
    my $res = $brood->request($method, $path, defined $body ? (body => $body) : (), timeout => 30) // {status => 0};
    return {http => $res->{status}, json => $res->{json}, ref $res->{json} eq 'HASH' ? %{$res->{json}} : ()};
}

subtest 'languages' => sub {
    my %l;
    ok(until_true(30, sub { %l = map { $_->{name} => $_ } @{ask(GET => '/v1/languages')->{json}}; $l{bash}{version} }), 'versions are asked for');
    is_deeply([map { $l{$_}{available} ? 1 : 0 } qw(awk bash cobol)], [1, 1, 0], 'which of them are available') or diag(encode_json(\%l));
    is_deeply($l{awk}{aliases}, ['mawk'], 'aliases');
    is(ask(POST => '/execute', {language => 'MAWK', code => '{ print $1 + 1 }', stdin => "41\n"})->{stdout}, "42\n", 'a language is one more file');
    for ('/execute', '/v1/runs') {
        my $r = ask(POST => $_, {language => 'cobol', code => 'x'});
        my $text = ref $r->{error} ? $r->{error}{message} : $r->{error};
        ok($r->{http} == 400 && $text =~ /cobol.*not installed.*available: awk, bash, script$/, "$_: 400 for one without its tools") or diag(encode_json($r));
    }
};

# The shortest of some runs by the zygote's clock, and by ours: the machine may be busy with something else. No more
# than it takes to be below these.
sub best {
    my ($path, $status, $body, $wanted_ms, $wanted_ours) = @_;
    my ($ms, $ours, @other) = (9e9, 9e9);
    for (1 .. 10) {
        my $begin = time;
        my $r = ask(POST => $path, $body);
        my $took = 1000 * (time - $begin);
        push @other, encode_json($r) if ($r->{status} // '') ne $status;
        $ms = $r->{wall_ms} if ($r->{wall_ms} // 9e9) < $ms;
        $ours = $took if $took < $ours;
        last if $ms <= $wanted_ms && $ours <= $wanted_ours;
    }
    is_deeply(\@other, [], "$path: $status");
    return ($ms, $ours);
}

subtest 'no run outlives its deadline by more than 200 ms' => sub {
    my $stubborn = q(trap '' TERM HUP INT; (trap '' TERM; setsid bash -c 'trap "" TERM; while :; do :; done') & while :; do :; done);
    # One that compiles as well: the deadline is the program's.
    for (['/execute', {language => 'bash', code => "$stubborn"}, timeout => 0.5], ['/v1/runs', {language => 'bash', code => $stubborn}, limits => {timeout_ms => 500}],
        ['/v1/runs', {cmd => $stubborn, namespace_id => 'late'}, limits => {timeout_ms => 500}],
        ['/execute', {language => 'script', code => "[ \$1 = compile ] && exit; $stubborn"}, timeout => 0.5]) {
        my ($path, $body, %limit) = @$_;
        my (undef, $usual) = best($path, $path eq '/execute' ? 'success' : 'succeeded', {%$body, map { exists $body->{$_} ? ($_ => 'true') : () } qw(cmd code)}, 20, 40);
        my ($ms, $ours) = best($path, 'timeout', {%$body, %limit}, 700, 700 + $usual);
        cmp_ok($ms, '>=', 500, 'not before');
        cmp_ok($ms, '<=', 700, "and then at once ($ms ms)");
        cmp_ok($ours, '<=', 700 + $usual, sprintf 'by the clock of its client, too (%.0f ms, and %.0f for one that does nothing)', $ours, $usual);
    }
};

subtest 'memory is that of the whole tree' => sub {
    my $each = 'x=$(head -c 20M /dev/zero | tr "\0" x); echo >in.$1; until [ -e go ]; do sleep 0.05; done';
    my $r = ask(POST => '/v1/runs', {cmd => "hold() { $each; }; hold 1 & hold 2 & hold 3 & until [ -e in.1 -a -e in.2 -a -e in.3 ]; do sleep 0.05; done; touch go; wait"});
    is($r->{status}, 'succeeded', 'three processes') or diag(encode_json($r));
    cmp_ok($r->{usage}{max_rss_mb}, '>', 58, "together ($r->{usage}{max_rss_mb} MB)");
    cmp_ok($r->{max_rss_kb}, '<=', 256 * 1024, 'within the limit');
};

subtest 'what bounds a compiler' => sub {
    my $longer = '[ $1 = run ] || { sleep 0.3; x=$(head -c 40M /dev/zero | tr "\0" x); }; echo $1';
    my $r = ask(POST => '/v1/runs', {language => 'script', code => $longer, limits => {timeout_ms => 250, memory_mb => 16}});
    is_deeply([@$r{qw(status stdout)}], ['succeeded', "run\n"], 'not what the request says of its program') or diag(encode_json($r));
    cmp_ok($r->{usage}{wall_ms}, '>', 300, 'which usage shows');
    is_deeply([@{$r->{limits}}{qw(timeout_ms memory_mb)}], [250, 16], 'and limits says');
    my $small = Brood->start('languages-dir' => $languages, 'v1-runs-timeout-max' => '2s', 'v1-runs-memory-max' => '32M');
    my $run = sub {
        my $res = $small->request(POST => '/v1/runs', body => {language => 'script', code => "[ \$1 = run ] || $_[0]; echo \$1"}, timeout => 40);
        return [map { @$_{qw(name reason)} } @{$res->{json}{stages} // [{name => $res->{body}}]}];
    };
    is_deeply($run->(':'), [qw(compile exit run exit)], 'it compiles');
    is_deeply($run->('sleep 60'), [qw(compile timeout)], 'for as long as any run may take');
    is_deeply($run->('x=$(head -c 60M /dev/zero | tr "\0" x)'), [qw(compile oom)], 'with as much memory');
    $small->stop;
};

$brood->stop;
done_testing;
