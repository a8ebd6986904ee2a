# SPDX-License-Identifier: Apache-2.0
# What /execute and /v1/runs promise of a program whatever its language: when it is over, what it used, and which
# languages there are. A language of the operator's is one more file; one without its tools is told so.
use lib 't/lib';
use Brood;
use File::Temp qw(tempdir);
use Mojo::JSON qw(encode_json);

my $languages = tempdir(CLEANUP => 1);
chmod 0755, $languages;
spew("$languages/bash.yaml", slurp(Brood->root . '/etc/languages.d/bash.yaml'));
spew("$languages/awk.yaml", qq(name: awk\naliases: [mawk]\nsource: main.awk\nversion: [awk, -W, version]\nrun: {argv: [awk, -f, "{source}"]}\n));
spew("$languages/cobol.yaml", qq(name: cobol\nsource: a\nversion: [no-such-program]\nrun: {argv: [no-such-program, "{source}"]}\n));
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
        ok($r->{http} == 400 && $text =~ /cobol.*not installed.*available: awk, bash$/, "$_: 400 for one without its tools") or diag(encode_json($r));
    }
};

# The machine may be busy with something else: the best of three.
sub best {
    my ($path, $body) = @_;
    my @runs = map { ask(POST => $path, $body) } 1 .. 3;
    is(join(' ', map { $_->{status} } @runs), 'timeout timeout timeout', "$path: its time is up") or diag(encode_json(\@runs));
    return (sort { $a <=> $b } map { $_->{wall_ms} } @runs)[0];
}

subtest 'no run outlives its deadline by more than 200 ms' => sub {
    my $stubborn = q(trap '' TERM HUP INT; (trap '' TERM; setsid bash -c 'trap "" TERM; while :; do :; done') & while :; do :; done);
    for (['/execute', {language => 'bash', code => $stubborn, timeout => 0.5}], ['/v1/runs', {language => 'bash', code => $stubborn, limits => {timeout_ms => 500}}],
        ['/v1/runs', {cmd => $stubborn, namespace_id => 'late', limits => {timeout_ms => 500}}]) {
        my $ms = best(@$_);
        cmp_ok($ms, '>=', 500, 'not before');
        cmp_ok($ms, '<=', 700, "and then at once ($ms ms)");
    }
};

subtest 'memory is that of the whole tree' => sub {
    my $each = 'x=$(head -c 20M /dev/zero | tr "\0" x); echo >in.$1; until [ -e go ]; do sleep 0.05; done';
    my $r = ask(POST => '/v1/runs', {cmd => "hold() { $each; }; hold 1 & hold 2 & hold 3 & until [ -e in.1 -a -e in.2 -a -e in.3 ]; do sleep 0.05; done; touch go; wait"});
    is($r->{status}, 'succeeded', 'three processes') or diag(encode_json($r));
    cmp_ok($r->{usage}{max_rss_mb}, '>', 58, "together ($r->{usage}{max_rss_mb} MB)");
    cmp_ok($r->{max_rss_kb}, '<=', 256 * 1024, 'within the limit');
};

$brood->stop;
done_testing;
