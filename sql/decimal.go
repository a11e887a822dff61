package sql

import (
	"math/big"
	"strings"

	"github.com/longship-db/longship/pgwire"
)

// A decimal is unscaled × 10^−scale: a numeric while we calculate with it.
type decimal struct {
	unscaled *big.Int
	scale    int
}

// maxDecimalDigits bounds the digits of a numeric on either side of the point. PostgreSQL allows
// 131072 and 16383; nothing here needs more than a few dozen.
const maxDecimalDigits = 1000

func decimalFromUint(n uint64) decimal { return decimal{unscaled: new(big.Int).SetUint64(n)} }

func decimalFromInt(n int64) decimal { return decimal{unscaled: big.NewInt(n)} }

// decimalValue makes v's canonical form: no needless zeros in front, the scale kept.
func decimalValue(d decimal) Value { return Value{typ: Numeric, s: d.String()} }

func (d decimal) String() string {
	digits := new(big.Int).Abs(d.unscaled).String()
	if d.scale > 0 {
		if pad := d.scale + 1 - len(digits); pad > 0 {
			digits = strings.Repeat("0", pad) + digits
		}
		digits = digits[:len(digits)-d.scale] + "." + digits[len(digits)-d.scale:]
	}
	if d.unscaled.Sign() < 0 {
		return "-" + digits
	}
	return digits
}

// parseDecimal reads [sign] digits [. digits] [e exponent].
func parseDecimal(s string) (decimal, bool) {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(s), "e")
	exp := 0
	if len(mantissa) != len(s) {
		v, err := parseInt(exponent, Int2)
		if err != nil || v.n > maxDecimalDigits || v.n < -maxDecimalDigits {
			return decimal{}, false
		}
		exp = int(v.n)
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	sign := strings.TrimLeft(whole, "+-")
	if len(whole)-len(sign) > 1 || len(sign)+len(fraction) == 0 || len(whole)+len(fraction) > 2*maxDecimalDigits {
		return decimal{}, false
	}
	for _, c := range []byte(sign + fraction) {
		if !isDigit(c) {
			return decimal{}, false
		}
	}
	n, ok := new(big.Int).SetString(whole+fraction, 10)
	if !ok {
		return decimal{}, false
	}
	d := decimal{unscaled: n, scale: len(fraction) - exp}
	if d.scale < 0 {
		d = decimal{unscaled: n.Mul(n, pow10(-d.scale))}
	}
	return d, d.fits()
}

// fits reports whether d is within maxDecimalDigits on both sides of the point.
func (d decimal) fits() bool {
	const bitsPerDigit = 3.3219281
	return d.scale <= maxDecimalDigits && float64(d.unscaled.BitLen())/bitsPerDigit <= float64(maxDecimalDigits+d.scale)
}

func pow10(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// rescale returns d with the given scale, rounded half away from zero.
func (d decimal) rescale(scale int) decimal {
	if scale >= d.scale {
		return decimal{new(big.Int).Mul(d.unscaled, pow10(scale-d.scale)), scale}
	}
	return decimal{divRound(d.unscaled, pow10(d.scale-scale)), scale}
}

// divRound divides, rounding half away from zero.
func divRound(n, by *big.Int) *big.Int {
	quotient, rest := new(big.Int).QuoRem(n, by, new(big.Int))
	if rest.Lsh(rest.Abs(rest), 1).CmpAbs(by) >= 0 {
		quotient.Add(quotient, big.NewInt(int64(n.Sign()*by.Sign())))
	}
	return quotient
}

func aligned(a, b decimal) (decimal, decimal) {
	scale := max(a.scale, b.scale)
	return a.rescale(scale), b.rescale(scale)
}

func (d decimal) cmp(b decimal) int {
	x, y := aligned(d, b)
	return x.unscaled.Cmp(y.unscaled)
}

// decimalArith computes a op b, op being one of + - * / %.
func decimalArith(op byte, a, b decimal) (decimal, error) {
	x, y := aligned(a, b)
	var out decimal
	switch op {
	case '+':
		out = decimal{new(big.Int).Add(x.unscaled, y.unscaled), x.scale}
	case '-':
		out = decimal{new(big.Int).Sub(x.unscaled, y.unscaled), x.scale}
	case '*':
		out = decimal{new(big.Int).Mul(a.unscaled, b.unscaled), a.scale + b.scale}
		if out.scale > maxDecimalDigits {
			out = out.rescale(maxDecimalDigits)
		}
	default:
		if b.unscaled.Sign() == 0 {
			return decimal{}, divisionByZero()
		}
		if op == '%' {
			out = decimal{new(big.Int).Rem(x.unscaled, y.unscaled), x.scale}
			break
		}
		scale := divisionScale(a, b)
		n := new(big.Int).Mul(x.unscaled, pow10(scale))
		out = decimal{divRound(n, y.unscaled), scale}
	}
	if !out.fits() {
		return decimal{}, pgwire.Errorf(pgwire.CodeNumericValueOutOfRange, "value overflows numeric format")
	}
	return out, nil
}

// divisionScale chooses the digits after the point of a quotient as PostgreSQL does
// (select_div_scale in numeric.c): at least 16 significant digits, counted in groups of four.
func divisionScale(a, b decimal) int {
	weightA, firstA := a.leadingGroup()
	weightB, firstB := b.leadingGroup()
	weight := weightA - weightB
	if firstA <= firstB {
		weight--
	}
	return min(max(16-4*weight, a.scale, b.scale, 0), maxDecimalDigits)
}

// leadingGroup returns the weight (power of 10000) and value of the first non-zero group of four
// digits; 0, 0 for zero.
func (d decimal) leadingGroup() (weight, first int) {
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(d.String(), "-"), ".")
	whole = strings.Repeat("0", (4-len(whole)%4)%4) + whole
	fraction += strings.Repeat("0", (4-len(fraction)%4)%4)
	digits := whole + fraction
	weight = len(whole)/4 - 1
	for i := 0; i+4 <= len(digits); i += 4 {
		group := int(digits[i]-'0')*1000 + int(digits[i+1]-'0')*100 + int(digits[i+2]-'0')*10 + int(digits[i+3]-'0')
		if group != 0 {
			return weight - i/4, group
		}
	}
	return 0, 0
}

func divisionByZero() error {
	return pgwire.Errorf(pgwire.CodeDivisionByZero, "division by zero")
}
