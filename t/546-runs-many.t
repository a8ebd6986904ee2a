# SPDX-License-Identifier: Apache-2.0
# Many runs at once in all languages: each answer belongs to its request. And two keys, which do not see each other's runs.
use lib 't/lib';
use Brood;
use Digest::SHA qw(sha256_hex);
use Mojo::JSON qw(encode_json);

my %program = (
    bash => 'echo "$1"; cat; echo "$1" >outputs/$1', python => 'import sys; print(sys.argv[1]); sys.stdout.write(sys.stdin.read())',
    node => 'console.log(process.argv[2]); process.stdout.write(require("fs").readFileSync(0))',
    ruby => 'puts ARGV[0]; print $stdin.read', php => '<?php echo $argv[1], "\n", stream_get_contents(STDIN);',
    perl => 'print "$ARGV[0]\n"; print while <STDIN>;',
    c => "#include <stdio.h>\nint main(int n, char **v) { puts(v[1]); for (int c; (c = getchar()) != EOF;) putchar(c); return 0; }",
    cpp => "#include <cstdio>\nint main(int n, char **v) { puts(v[1]); for (int c; (c = getchar()) != EOF;) putchar(c); }",
    go => "package main\nimport (\"io\"; \"os\")\nfunc main() { io.WriteString(os.Stdout, os.Args[1]+\"\\n\"); io.Copy(os.Stdout, os.Stdin) }",
    java => 'class A { public static void main(String[] a) throws Exception { System.out.println(a[0]); System.in.transferTo(System.out); System.out.flush(); } }',
);
my %share = (go => 3, java => 3, cpp => 10, c => 20); # what compiles takes seconds, the quick ones are the rest

my %keys = map { my $token = "brood_token-of-$_-" . sha256_hex(rand() . $$); ($_ => $token) } qw(ann bob);
my $dir = Brood::_temp_dir();
spew("$dir/keys.yaml", "keys:\n" . join '', map { "  - label: $_\n    sha256: " . sha256_hex($keys{$_}) . "\n    scopes: [runs, files]\n" } sort keys %keys);
my $brood = Brood->start(dir => $dir, 'key-file' => "$dir/keys.yaml", 'languages-dir' => '', 'v1-runs-timeout-max' => '160s',
    'v1-runs-cpu-max' => '100s', 'http-request-timeout' => '60s', 'runs-max-wait' => '280s', 'namespaces-active-max' => 64, 'log-level' => 'warn');

sub request_of {
    my ($who, $method, $path, $body) = @_;
    return Brood::Conn->request($method, $path, (defined $body ? (body => $body) : ()), headers => {Authorization => "Bearer $keys{$who}"});
}
sub ask {
    my $conn = $brood->connect;
    $conn->put(request_of(@_));
    return $conn->get(60) // {status => 0};
}

my $languages = ask(ann => GET => '/v1/languages')->{json} // [];
my @names = grep { $program{$_} } map { $_->{name} } grep { $_->{available} } @$languages;
my @missing = grep { my $n = $_; !grep { $_ eq $n } @names } sort keys %program;
SKIP: { skip "not installed: @missing", 1 if @missing && ($ENV{REQUIRE} // '') !~ /languages/; is("@missing", '', 'all ten languages are there') }

my @plan = map { my $n = $_; ($n) x ($share{$n} // 0) } @names;
my @quick = grep { !$share{$_} } @names;
push @plan, $quick[@plan % @quick] while @plan < 500;
my (@wrong, %seen);
my %limits = (timeout_ms => 160_000, cpu_ms => 100_000);
# All are asked for before the first answer is read, each on a connection of its own; the service has 64 places for them.
my @open = map {
    my $i = ($_ * 37) % @plan; # mixed
    my %run = (i => $i, language => $plan[$i], conn => $brood->connect, who => $i % 2 ? 'ann' : 'bob');
    $run{conn}->put(request_of($run{who}, POST => '/v1/runs', {language => $run{language}, code => $program{$run{language}},
        args => ["arg-$i"], stdin => "in-$i\n", limits => \%limits}));
    \%run;
} 0 .. $#plan;
for my $run (@open) {
    my $res = $run->{conn}->get(300) // {status => 0, body => 'no answer'};
    my $j = ref $res->{json} eq 'HASH' ? $res->{json} : {};
    my $fits = $res->{status} == 200 && $j->{status} eq 'succeeded' && $j->{stdout} eq "arg-$run->{i}\nin-$run->{i}\n"
      && $j->{language} eq $run->{language} && !$seen{$j->{id}}++
      && ($run->{language} ne 'bash' || (@{$j->{artifacts}} == 1 && $j->{artifacts}[0]{name} eq "arg-$run->{i}"));
    push @wrong, "$run->{language} $run->{i}: $res->{status} " . substr $res->{body}, 0, 600 unless $fits;
    $run->{conn}->close;
}
is(scalar @wrong, 0, '500 runs: each answer belongs to its request') or diag(join "\n", @wrong[0 .. ($#wrong < 4 ? $#wrong : 4)]);
is(scalar keys %seen, 500, 'and each has an id of its own');

my $own = ask(ann => POST => '/v1/runs', {cmd => 'echo secret >outputs/s; echo secret'})->{json};
is(ask(ann => GET => "/v1/runs/$own->{id}")->{status}, 200, 'a key sees its run');
is(ask(bob => GET => "/v1/runs/$own->{id}")->{status}, 404, 'another does not');
is(ask(bob => DELETE => "/v1/runs/$own->{id}")->{status}, 404, 'nor may it cancel it');
is(ask(bob => GET => "/v1/files/$own->{artifacts}[0]{id}")->{status}, 404, 'nor fetch its artifact') if $own->{artifacts}[0]{id};
my $up = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"in\"\r\n\r\nmine\r\n--b--\r\n";
my $conn = $brood->connect;
$conn->put(Brood::Conn->request(POST => '/v1/files', body => $up,
    headers => {Authorization => "Bearer $keys{ann}", 'Content-Type' => 'multipart/form-data; boundary=b'}));
my $file = $conn->get(20)->{json}{id};
is(ask(ann => POST => '/v1/runs', {cmd => 'cat in', files => [{id => $file, path => 'in'}]})->{json}{stdout}, 'mine', 'a key uses its file');
is(ask(ann => GET => "/v1/files/$file")->{body}, 'mine', 'and fetches it');
is(ask(bob => GET => "/v1/files/$file")->{status}, 404, 'another does not');
is($brood->request(GET => "/v1/files/$file")->{status}, 401, 'nor does nobody');
is(ask(bob => POST => '/v1/runs', {cmd => 'cat in', files => [{id => $file, path => 'in'}]})->{status}, 404, 'nor takes it along');
my $slow = $brood->connect;
$slow->put(Brood::Conn->request(POST => '/v1/runs', body => {cmd => 'sleep 60'}, headers => {Authorization => "Bearer $keys{ann}", Prefer => 'respond-async'}));
my $id = $slow->get(20)->{json}{id};
is(ask(bob => GET => "/v1/runs/$id")->{status}, 404, 'a run under way is not seen by another key');
is(ask(bob => DELETE => "/v1/runs/$id")->{status}, 404, 'nor cancelled');
is(ask(ann => DELETE => "/v1/runs/$id")->{status}, 202, 'by its own it is');
$brood->stop;
done_testing;
