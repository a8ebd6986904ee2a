# SPDX-License-Identifier: Apache-2.0
# Brood::Languages - what every language must do, for t/540 and t/541: t/languages holds one program for each,
# whose first argument says what it does. A language that is not installed is skipped with its name; with
# REQUIRE=languages (CI) that is a failure.
package Brood::Languages;
use strict;
use warnings;
use Brood;
use Mojo::JSON qw(decode_json encode_json);

my $brood;
my %required = map { $_ => 1 } split /[\s,]+/, $ENV{REQUIRE} // '';

# file of t/languages, aliases, what stderr of an uncaught error shows, a broken program and what is said of it.
my @table = (
    [bash => 'bash.sh', [qw(sh shell)], qr/no_such_variable: unbound variable/, "if true; then\n", qr/syntax error/],
    [python => 'python.py', [qw(python3 py)], qr/Traceback.*in inner.*ValueError: told to/s, "def f(:\n", qr/SyntaxError/],
    [node => 'node.js', [qw(javascript js nodejs)], qr/Error: told to\n.*at inner/s, "function (\n", qr/SyntaxError/],
    [ruby => 'ruby.rb', [qw(rb)], qr/in .*inner.*told to/, "def (\n", qr/syntax error/],
    [php => 'php.php', [], qr/Exception: told to.*inner/s, "<?php if (\n", qr/(?:syntax|Parse) error/],
    [go => 'go.go', [qw(golang)], qr/panic: told to.*main\.inner/s, "package main\nfunc main() { x }\n", qr/undefined: x/],
    [cpp => 'cpp.cpp', [qw(c++ cxx)], qr/runtime_error.*told to/s, "int main() { x; }\n", qr/error: .x. was not declared/],
    [c => 'c.c', [], qr/Assertion .!told. failed/, "int main(void) { x; }\n", qr/error: .x. undeclared/],
    [java => 'java.java', [], qr/IllegalStateException: told to\s+at Kitchen\.inner/, "public class A { void f() { x; } }\n", qr/error: /],
    [perl => 'perl.pl', [], qr/told to at .*main::inner/s, "if (\n", qr/syntax error/],
);
# java allows itself a quarter of the machine: where that is less than a run may have, its own error comes first.
my ($ram_kb) = Brood::slurp('/proc/meminfo') =~ /^MemTotal:\s+(\d+)/;
my %own_limit = (java => qr/OutOfMemoryError/) x ($ram_kb < 3 << 20);
# What a program without main is told, and by whom.
my $unlinked = qr/undefined reference to .main'/;
my %no_main = (c => ['int x;', $unlinked, 'compile'], cpp => ['int x;', $unlinked, 'compile'],
    go => ["package main\nfunc f() {}\n", qr/function main is undeclared/, 'compile'], java => ['class A { int x; }', qr/Main method not found in class A/, 'run']);
my %compiles = map { $_ => 1 } keys %no_main;

sub code {
    my ($status, $json) = $brood->execute({timeout => 30, @_}, timeout => 70);
    return {http => $status, status => '', stdout => '', stderr => '', ref $json eq 'HASH' ? %$json : ()};
}

sub v1 {
    my $res = $brood->request(POST => '/v1/runs', body => {@_}, timeout => 70) // {};
    return {http => $res->{status}, status => '', stdout => '', stderr => '', artifacts => [], ref $res->{json} eq 'HASH' ? %{$res->{json}} : ()};
}

sub check {
    my (@names) = @_;
    $brood = Brood->start('languages-dir' => '', 'v1-runs-timeout-max' => '20s', 'runs-timeout-max' => '60s');
    my $languages;
    ok(until_true(60, sub { # versions are asked for in the background
        $languages = $brood->request(GET => '/v1/languages')->{json};
        return ref $languages eq 'ARRAY' && grep { ($_->{version} // '') ne '' } @$languages;
    }), 'GET /v1/languages is a list, with versions');
    my %known = map { $_->{name} => $_ } @$languages;

    my $upload = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"in.txt\"\r\n\r\nuploaded\n\r\n--b--\r\n";
    my $file = $brood->request(POST => '/v1/files', body => $upload, headers => {'Content-Type' => 'multipart/form-data; boundary=b'});
    like($file->{json}{id}, qr/^file_/, 'a file is uploaded') or diag($file->{body});

    for (grep { my $row = $_; grep { $row->[0] eq $_ } @names } @table) {
        my ($name, $source, $aliases, $stack, $broken, $complaint) = @$_;
        my $l = $known{$name};
        unless ($l && $l->{available}) {
            ok(0, "$name is required") if $required{languages};
            SKIP: { skip "$name is not installed", 1 unless $required{languages} }
            next;
        }
        subtest $name => sub {
            my @main = (language => $name, code => Brood::slurp("t/languages/$source"));
            my $show = sub { diag(encode_json($_[0])); 0 };
            is_deeply([sort @{$l->{aliases}}], [sort @$aliases], 'aliases');
            like($l->{version}, qr/\d/, "version: $l->{version}");

            my $r = code(@main, args => ['hello']);
            ok($r->{http} == 200 && $r->{status} eq 'success' && $r->{stdout} eq "Hello, World!\n" && $r->{exit_code} == 0, 'hello') or $show->($r);
            ok($r->{execution_time} > 0 && $r->{execution_time} < 30, "execution_time is seconds: $r->{execution_time}");
            is(join(' ', map { $_->{name} } @{$r->{stages}}), $compiles{$name} ? 'compile run' : 'run', 'its stages');

            $r = code(@main, args => ['stdin'], stdin => "one\ntwo \x{20ac}\n");
            is($r->{stdout}, "one\ntwo \x{20ac}\n", 'stdin') or $show->($r);
            $r = code(@main, args => ['args', 'a b', '', '*', '$x', "\x{e4}"]);
            is($r->{stdout}, "[a b][][*][\$x][\x{e4}]\n", 'arguments') or $show->($r);
            $r = code(@main, args => ['env'], env => {GREETING => "hello 'you'"});
            is($r->{stdout}, "hello 'you'\n", 'environment') or $show->($r);
            $r = code(@main, args => ['exit']);
            ok($r->{status} eq 'error' && $r->{exit_code} == 3 && $r->{stage} eq 'run', 'exit code 3') or $show->($r);
            $r = code(@main, args => ['throw']);
            ok($r->{status} eq 'error' && $r->{stderr} =~ $stack, 'an error nobody catches shows where, on stderr') or $show->($r);
            $r = code(language => $name, code => $broken);
            ok($r->{status} eq 'error' && $r->{stderr} =~ $complaint && $r->{stage} eq ($compiles{$name} ? 'compile' : 'run'),
                'a broken program') or $show->($r);
            if (my ($without, $told, $stage) = @{$no_main{$name} // []}) {
                $r = code(language => $name, code => $without);
                ok($r->{status} eq 'error' && $r->{stderr} =~ $told && $r->{stage} eq $stage, 'a program without main') or $show->($r);
                $r = code(@main, args => ['args', 'x'], namespace_id => 'kitchen');
                ok($r->{status} eq 'success' && $r->{stdout} eq "[x]\n", 'in a namespace') or $show->($r);
                my ($status, $json) = $brood->execute({namespace_id => 'kitchen', cmd => 'echo *'});
                is($json->{stdout}, "*\n", 'among whose files it puts nothing');
            }
            $r = code(@main, args => ['loop'], timeout => $compiles{$name} ? 4 : 1);
            ok($r->{status} eq 'timeout' && $r->{stage} eq 'run', 'an endless loop') or $show->($r);
            $r = code(@main, args => ['alloc']);
            ok($r->{status} eq 'oom' || ($own_limit{$name} && $r->{stderr} =~ $own_limit{$name}), 'a gigabyte is too much') or $show->($r);
            $r = code(@main, args => ['flood']);
            ok($r->{status} eq 'success' && $r->{stdout_truncated} && $r->{stdout_bytes} == 10485760 && $r->{stdout} eq 'x' x 1048576,
                '10 MB are cut to what is allowed') or diag($r->{status}, ' ', $r->{stdout_bytes}, ' ', substr $r->{stderr}, 0, 300);
            $r = code(@main, args => ['threads']);
            is($r->{stdout}, "10\n", 'threads or processes') or $show->($r);
            $r = code(@main, args => ['net']);
            is($r->{stdout}, "none\n", 'no network') or $show->($r);

            my %more = (limits => {timeout_ms => 20000, cpu_ms => 20000});
            $r = v1(@main, args => ['write'], %more);
            is(scalar @{$r->{artifacts}}, 1, 'one artifact') or $show->($r);
            my $a = $r->{artifacts}[0] // {name => '', url => ''};
            my $got = $brood->request(GET => $a->{url} =~ s{^https?://[^/]+}{}r) // {};
            ok($a->{name} eq 'made.txt' && $got->{status} == 200 && $got->{body} eq "made here\n", 'which its URL fetches') or $show->($a);
            $r = v1(@main, args => ['read'], files => [{id => $file->{json}{id}, path => 'in.txt'}], %more);
            is($r->{stdout}, "uploaded\n", 'an uploaded file is there') or $show->($r);
            return unless $name =~ /^(?:python|c)$/; # of those that compile, and that do not
            for (['loop', 'timeout', 'timeout', timeout_ms => 700], ['loop', 'timeout', 'cpu_limit', cpu_ms => 1000, timeout_ms => 20000],
                ['alloc', 'oom', 'oom', memory_mb => 48, timeout_ms => 20000]) {
                my ($what, $state, $reason, %limits) = @$_;
                $r = v1(@main, args => [$what], limits => \%limits);
                ok($r->{status} eq $state && $r->{reason} eq $reason && $r->{stage} eq 'run', "limits of a stored run: $reason") or $show->($r);
                is($r->{limits}{$_}, $limits{$_}, "limits.$_") for sort keys %limits;
            }
        };
    }
    $brood->stop;
    done_testing();
}

1;
