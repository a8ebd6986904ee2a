# SPDX-License-Identifier: Apache-2.0
# A table of t/300-fidelity.t, which says how it is read; not a script of its own.
### defaults
echo "${x:-a}" "${x-b}" "${x:=c}" "$x" "${x:+d}" "${y+e}"
### error operator
echo "${x:?must be set}"; echo not reached
### error operator in a subshell
(: "${x?}"); echo $?
### substrings
x=abcdefg; echo ${x:2} ${x:2:2} ${x: -3} ${x: -3:1} ${x:1:-2} ${#x}
### patterns
x=/a/b/c.tar.gz; echo ${x##*/} ${x#*/} ${x%.*} ${x%%.*} ${x/a/Z} ${x//a/Z} ${x/#\//_} ${x/%gz/xz}
### case
x='hello World'; echo "${x^}" "${x^^}" "${x,,}" "${x~~}" "${x^^[lo]}"
### transformations
x=$'a\nb'; y=(1 'b c'); echo "${x@Q}" "${y[@]@Q}" "${y[@]@A}" "${x@E}" "${y[@]@K}" "${y@a}"
### indirection
a=b; b=c; echo ${!a} ${!b*} ${!B@}
### arithmetic
echo $((1+2*3)) $((2**10)) $((7/2)) $((-7%3)) $((0x1f)) $((010)) $((2#101)) $((1<2?3:4)) $((x=5,x++,x))
### arithmetic error
echo $((1/0)); echo $?
### arithmetic syntax error
echo $((1+)); echo not reached
### arithmetic value too great
echo $((08)); echo $?
### arithmetic overflow
echo $((9223372036854775807+1)) $((1<<63)) $((1<<64))
### let
let a=1 b=a+2 'c = b * 2'; echo $a $b $c $?; let 0; echo $?
### (( ))
((0)); echo $?; ((5)); echo $?; for ((i=0;i<3;i++)); do echo $i; done
### brace
echo {a,b}{1..3} {01..10..3} {c..a} a{,b} {x} {1..} "{a,b}"
### tilde
echo ~ ~/x ~root ~nosuchuser a=~ "~"; x=~/y; echo $x
### word splitting
x='a  b	c'; set -- $x; echo $#; IFS=:; x=1:2::3; set -- $x; echo $# "$*"; printf '<%s>' $x
### quoting
echo 'a"b' "c'd" a\ b $'t\tx\x41\u20ac\101' $"loc" "a\$b\`c" '\n'
### globs
touch a1 a2 b1 .h; echo * a? [ab]1 .* nomatch* "a*" [!a]*
### glob options
touch a .b; shopt -s dotglob; echo *; shopt -s nullglob; echo no*; shopt -s failglob; echo no*; echo not
### globstar
mkdir -p d/e; touch d/e/f; echo **; shopt -s globstar; echo **; echo **/f
### nocaseglob
touch AbC; shopt -s nocaseglob; echo abc*; GLOBIGNORE='A*'; echo *
### noglob
touch a; set -f; echo *; set +f; echo *
### extglob set before
shopt -s extglob
touch aa ab ac; echo !(aa) @(aa|ab) +(a) ?(a)b
### extglob at parse time
shopt -s extglob; echo !(x)
### extglob in [[
[[ aab == +(a)b ]] && echo match; x=aab; shopt -s extglob
echo ${x##+(a)}
### command substitution
echo $(echo a; echo b) "$(printf 'x\n\n\n')" `echo c` $(<<<here cat) $(exit 3); echo $?
### nested command substitution
echo "$(echo "$(echo "$(echo deep)")")" `echo \`echo q\``
### substitution of a file
echo text >f; echo "$(<f)"; echo $(<nofile); echo $?
### substitution and status
x=$(exit 7); echo $?; x=$(false) y=$(true); echo $?; local_f() { local z=$(exit 5); echo $?; }; local_f
### NUL in a substitution
x=$(printf 'a\0b'); echo "$x"
### process substitution
cat <(echo a) <(echo b); echo x > >(cat); wait $!; diff <(echo 1) <(echo 2); echo $?; echo <(:)
### process substitution to a loop
while read -r l; do echo "[$l]"; done < <(printf 'a\nb\nc'); echo $l
### many process substitutions
cat <(echo 1) <(echo 2) <(echo 3) <(echo 4); echo <(:) <(:); ls -l /proc/self/fd | wc -l
### here-document
x=1; cat <<A; cat <<'B'; cat <<-C
$x $(echo y) `echo z` \$x
A
$x \$x
B
	tab
	C
### here-document without an end
cat <<A
text
### here-document in a substitution without an end
echo $(cat <<A
x
)
### here-strings
cat <<<"a b"; cat <<<$'x\ny'; x='p  q'; cat <<<$x; read a b <<<"1 2 3"; echo $b
### large here-document
x=$(printf '%70000s' .); cat <<A | wc -c
$x
A
### arrays
a=(1 2 3); a[5]=x; a+=(y); echo ${a[@]} ${#a[@]} ${!a[@]} ${a[-1]} "${a[@]:1:2}"; unset 'a[0]'; declare -p a
### associative arrays
declare -A m=([a]=1 ["b c"]=2); m[d]=3; echo ${m["b c"]} ${#m[@]}; for k in "${!m[@]}"; do echo "$k"; done | sort
### order of an associative array
declare -A m; for i in {1..20}; do m[k$i]=$i; done; echo "${!m[@]}"; declare -p m
### array errors
a=(1); a[-5]=x; echo $?; echo ${a[-9]}; declare -A a; echo $?
### array in arithmetic
a=(1 2 3); ((a[1]+=5)); echo ${a[1]} $((a[0]+a[2])) ${a[1+1]}
### regular expression
[[ abc123 =~ ^([a-z]+)([0-9]+)$ ]]; echo $? ${BASH_REMATCH[@]}; declare -p BASH_REMATCH; [[ a =~ '.' ]]; echo $?; [[ a =~ ( ]]; echo $?
### [[
[[ a < b && ! b < a || 0 -eq 1 ]]; echo $?; [[ abc == a*c ]]; echo $?; [[ -v x ]]; echo $?; [[ -o errexit ]]; echo $?
### test
test 1 -lt 2; echo $?; [ a = b ]; echo $?; [ -e /nofile ]; echo $?; [ 1 -eq x ]; echo $?; [ a b c d ]; echo $?; [ -t 0 ]; echo $?
### test on files
touch f; ln -s f l; mkdir d; for o in e f d L r w x s O G N S p; do [ -$o f ]; echo -n "$o$? "; done; [ l -ef f ]; echo $?
### history expansion is off
echo a!b !!; set -o | grep hist; set -H; echo !!
### locale
x=$'\303\244\303\266'; echo ${#x} ${x^^}; LC_ALL=C; echo ${#x}; unset LC_ALL; echo ${#x}; printf '%s\n' ä Z a | sort
### locale of numbers
printf '%.2f %d %x %e\n' 1.5 0x10 255 12345; LC_NUMERIC=de_DE.UTF-8 printf '%f\n' 1.5
### unknown locale
LC_ALL=xx_YY.UTF-8; echo $?; LANG=nope; echo a
### ranges in a locale
case B in [a-z]) echo lower;; *) echo other;; esac; shopt -u globasciiranges; case B in [a-c]) echo lower;; *) echo other;; esac
