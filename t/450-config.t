# SPDX-License-Identifier: Apache-2.0
# Configuration: flags over environment over .env over the YAML file; whatever is unknown or wrong stops the start
# and is named with its place and what was expected; SIGHUP makes what may change take effect.
use lib 't/lib';
use Brood;

sub dir_with {
    my (%files) = @_;
    my $dir = Brood::_temp_dir();
    spew("$dir/$_", $files{$_}) for keys %files;
    return $dir;
}

# What a run sees of a setting that is easy to see.
sub nofile {
    my ($brood) = @_;
    return $brood->sh(alice => 'ulimit -n')->{stdout} + 0;
}

subtest 'which one wins' => sub {
    my $yaml = "limits:\n  nofile: 111\n  tmp_mb: 17\nruns:\n  queue_max: 5\n";
    my @layers = (['the file', 111], ['.env', 222], ['the environment', 333], ['a flag', 444]);
    for my $n (0 .. 3) {
        my $dir = dir_with($n >= 1 ? ('.env' => "# a comment\n\nexport BROOD_LIMITS_NOFILE=\"222\"\nSOMETHING_ELSE=1\n") : ());
        my $brood = Brood->start(dir => $dir, config => $yaml, $n >= 2 ? (env => {BROOD_LIMITS_NOFILE => 333}) : (), $n >= 3 ? ('limits-nofile' => 444) : ());
        is(nofile($brood), $layers[$n][1], "$layers[$n][0] wins over " . ($n ? $layers[$n - 1][0] : 'the default'));
        like($brood->sh(alice => 'df -BM --output=size /tmp')->{stdout}, qr/\b17M/, 'what only the file says is taken from it') if $n == 3;
        $brood->stop;
    }
};

subtest 'PORT and SANDBOX_FS_ROOT' => sub {
    my ($port, $other) = (free_port(), free_port());
    my $dir = dir_with();
    my $brood = Brood->start(dir => $dir, 'http-port' => undef, 'fs-root' => undef, env => {PORT => $port, SANDBOX_FS_ROOT => "$dir/elsewhere"});
    $brood->{port} = $port;
    my ($status, $json) = $brood->execute({namespace_id => 'alice', cmd => 'echo here > note; cat note'}, via => 'tcp');
    is($status, 200, 'PORT is the port') or diag($brood->log_tail);
    ok(-e "$dir/elsewhere/alice/note", 'SANDBOX_FS_ROOT is where the files are');
    $brood->stop;
    $brood = Brood->start(dir => dir_with(), 'http-port' => undef, env => {PORT => $port, BROOD_HTTP_PORT => $other});
    $brood->{port} = $other;
    is(($brood->execute({namespace_id => 'alice', cmd => 'true'}, via => 'tcp'))[0], 200, 'BROOD_HTTP_PORT wins over PORT');
    $brood->stop;
    $brood = Brood->start(dir => dir_with(), 'http-port' => undef, port => $port, env => {PORT => $other});
    $brood->{port} = $port;
    is(($brood->execute({namespace_id => 'alice', cmd => 'true'}, via => 'tcp'))[0], 200, '--port wins over both');
    $brood->stop;
    $dir = dir_with('.env' => "PORT=$port\nSANDBOX_FS_ROOT=./relative\n");
    $brood = Brood->start(dir => $dir, 'http-port' => undef, 'fs-root' => undef);
    $brood->{port} = $port;
    is(($brood->execute({namespace_id => 'alice', cmd => 'touch x'}, via => 'tcp'))[0], 200, 'both may stand in .env');
    ok(-e "$dir/relative/alice/x", 'a relative path is taken from the working directory');
    $brood->stop;
};

# A start that must fail: where it says the fault is, and what it expected.
sub refused {
    my ($what, $like, %opt) = @_;
    my $dir = dir_with($opt{dotenv} ? ('.env' => $opt{dotenv}) : ());
    my $brood = Brood->start(dir => $dir, ready => 0, defined $opt{yaml} ? (config => $opt{yaml}) : (), env => $opt{env} // {}, %{$opt{flags} // {}});
    my $ended = $brood->wait_exit(10);
    my $said = slurp($brood->{log}) // '';
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok($ended && $brood->{status} != 0 && !($brood->{status} & 127) && $said =~ $like && $said =~ /expected|No such|Permission|directory/, "$what: refused, with its place")
      or diag($ended ? sprintf('status %#x', $brood->{status}) : 'it runs', "\n$said");
    ok(!-e "$dir/ns", 'nothing was created');
}

subtest 'the file is wrong' => sub {
    refused('an unknown key', qr/brood\.yaml:2: .*nonsense/, yaml => "runs:\n  nonsense: 3\n");
    refused('an unknown section', qr/brood\.yaml:3: .*surprise/, yaml => "runs:\n  queue_max: 3\nsurprise: 1\n");
    refused('an unknown key in depth', qr/brood\.yaml:1: .*deeper/, yaml => "deeper: {than: {this: 1}}\n");
    refused('a word for a number', qr/brood\.yaml:2: runs\.queue_max: .*expected/, yaml => "runs:\n  queue_max: many\n");
    refused('a number out of range', qr/brood\.yaml:3: limits\.memory_mb: .*expected.*16/, yaml => "\nlimits:\n  memory_mb: 1\n");
    refused('a negative number', qr/brood\.yaml:2: runs\.grace_ms: .*expected/, yaml => "runs:\n  grace_ms: -5\n");
    refused('a number too large for any', qr/brood\.yaml:2: /, yaml => "runs:\n  queue_max: 99999999999999999999999\n");
    refused('another word than allowed', qr/brood\.yaml:1: zygote: .*expected/, yaml => "zygote: zsh\n");
    refused('a list for a number', qr/brood\.yaml:2: /, yaml => "runs:\n  queue_max: [1, 2]\n");
    refused('the same key twice', qr/brood\.yaml:3: /, yaml => "runs:\n  queue_max: 3\n  queue_max: 4\n");
    refused('no YAML at all', qr/brood\.yaml:2: /, yaml => "runs:\n\tqueue_max: 3\n");
    refused('an unknown layer', qr/brood\.yaml:1: optional_layers: .*perhaps.*expected/, yaml => "optional_layers: perhaps\n");
    refused('/tmp too large for the memory', qr/brood\.yaml:3: limits\.tmp_mb: .*expected.*half/, yaml => "limits:\n  memory_mb: 64\n  tmp_mb: 32\n");
    refused('not on loopback', qr/brood\.yaml:2: http\.listen: .*expected.*loopback/, yaml => "http:\n  listen: 0.0.0.0\n");
    refused('a file that is not there', qr/no-such\.yaml/, env => {BROOD_CONFIG => '/tmp/no-such.yaml'});
};

subtest 'the rest is wrong' => sub {
    refused('an unknown variable', qr/BROOD_NONSENSE: .*unknown/, env => {BROOD_NONSENSE => 1});
    refused('a bad value in the environment', qr/BROOD_RUNS_QUEUE_MAX: .*expected.*many/, env => {BROOD_RUNS_QUEUE_MAX => 'many'});
    refused('a bad PORT', qr/environment: .*PORT: .*expected/, env => {PORT => 'http'}, flags => {'http-port' => undef});
    refused('a bad line in .env', qr/\.env:2: expected NAME=VALUE/, dotenv => "A=1\nthis is no assignment\n");
    refused('an unknown name in .env', qr/\.env:1: BROOD_NONSENSE: .*unknown/, dotenv => "BROOD_NONSENSE=1\n");
    refused('a bad value in .env', qr/\.env:2: .*LIMITS_NOFILE: .*expected/, dotenv => "\nBROOD_LIMITS_NOFILE=x\n");
    refused('an unknown flag', qr/--nonsense: unknown flag/, flags => {nonsense => 1});
    refused('a bad value of a flag', qr/--limits-nofile: .*expected/, flags => {'limits-nofile' => 'x'});
    refused('a unit that is none', qr/--runs-grace(?:-ms)?: .*expected.*unit/, flags => {'runs-grace' => '3 parsecs'});
    refused('a number without its unit', qr/--runs-grace(?:-ms)?: .*expected.*unit/, flags => {'runs-grace' => '300'});
    refused('a port beyond 65535', qr/--http-port: .*expected/, flags => {'http-port' => 65536});
    refused('nobody could ask', qr/http[-.]port: .*expected/, flags => {'http-port' => 0, 'http-socket' => undef});
};

subtest 'help' => sub {
    for (['--help', qr/--limits-memory-mb.*\n(?:.*\n)*.*SANDBOX_FS_ROOT/], ['--version', qr/^brood-supervisor \d+\.\d+/]) {
        my ($flag, $like) = @$_;
        my $out = `${\Brood::build()}/brood-supervisor $flag 2>&1`;
        is($?, 0, "$flag exits 0");
        like($out, $like, 'and tells');
    }
};

subtest 'etc/brood.yaml is true' => sub {
    my $text = slurp(Brood::root() . '/etc/brood.yaml');
    my $brood = Brood->start(config => $text);
    is(nofile($brood), 1024, 'it can be used as it is');
    is($brood->sh(alice => 'echo hi')->{stdout}, "hi\n", 'and the service works');
    $brood->stop;
};

subtest 'little memory, as the manual shows it' => sub {
    my $brood = Brood->start('limits-memory' => '64M', 'http-listen' => '::1', tcp => 1);
    like($brood->sh(alice => 'df -k --output=size /tmp')->{stdout}, qr/\b16384$/m, 'a quarter of it for /tmp');
    my $res = $brood->request(POST => "/v1/runs", body => {cmd => "echo x >outputs/x"});
    is($res->{json}{status}, 'succeeded', 'and a fresh namespace runs') or diag($res->{body});
    like($res->{json}{artifacts}[0]{url}, qr{^http://\[::1\]:$brood->{port}/v1/files/}, 'with URLs that can be followed');
    $brood->stop;
};

subtest 'SIGHUP' => sub {
    my $yaml = "runs:\n  output_max_kb: 1\n  timeout_max_ms: 5000\nlimits:\n  nofile: 200\n";
    my $brood = Brood->start(config => $yaml);
    my $size = sub { length $brood->sh(alice => 'head -c 9000 /dev/zero | tr "\0" x')->{stdout} };
    my $pid = $brood->{pid};
    is($size->(), 1024, 'one KiB of output is returned');
    my $running = $brood->post(bob => 'touch bob-runs; sleep 1; echo undisturbed');
    $brood->wait_file('bob-runs');
    spew("$brood->{dir}/brood.yaml", $yaml =~ s/output_max_kb: 1/output_max_kb: 3/r =~ s/5000/500/r =~ s/200/150/r);
    $brood->signal('HUP');
    ok($brood->wait_log(qr/"event":"reloaded"/), 'the reload is logged');
    ok(until_true(5, sub { $size->() == 3072 }), 'three KiB after it');
    is(($brood->execute({namespace_id => 'alice', cmd => 'true', timeout => 1}))[0], 400, 'another limit has changed, too');
    is($brood->result($running)->{stdout}, "undisturbed\n", 'what was running goes on');
    is($brood->sh(carol => 'ulimit -n')->{stdout}, "200\n", 'what is fixed at the start stays');
    spew("$brood->{dir}/brood.yaml", "runs:\n  output_max_kb: 2\n  nonsense: 1\n");
    $brood->signal('HUP');
    ok($brood->wait_log(qr/"event":"reload_failed".*brood\.yaml:3: .*nonsense/), 'a bad file is named');
    is($size->(), 3072, 'and changes nothing');
    unlink "$brood->{dir}/brood.yaml";
    $brood->signal('HUP');
    ok(until_true(5, sub { 2 <= grep { ($_->{event} // '') eq 'reload_failed' } $brood->log_lines }), 'so is one that is gone');
    is($size->(), 3072, 'and changes nothing');
    spew("$brood->{dir}/brood.yaml", $yaml);
    $brood->signal('HUP');
    ok(until_true(5, sub { $size->() == 1024 }), 'a good one works again');
    is($brood->{pid}, $pid, 'all that without a restart');
    $brood->signal('HUP') for 1 .. 50;
    is($brood->sh(alice => 'echo hi')->{stdout}, "hi\n", 'fifty at once do no harm');
    $brood->stop;
    $brood = Brood->start;
    $brood->signal('HUP');
    ok($brood->wait_log(qr/"event":"reloaded"/), 'without a file it is no error');
    is($brood->sh(alice => 'echo hi')->{stdout}, "hi\n", 'and no end');
    $brood->stop;
};

done_testing;
