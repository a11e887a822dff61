package gossip

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/hashicorp/memberlist"
)

// ParseKey reads a key that encrypts gossip: 16, 24 or 32 bytes (AES-128, 192, 256), in hexadecimal
// or in base64. The empty text is no key. The error does not repeat the text: it is a secret.
func ParseKey(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, nil
	}
	// Hexadecimal first: 32 such digits are also base64, of a key that nobody draws.
	for _, decode := range []func(string) ([]byte, error){
		hex.DecodeString, base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString,
	} {
		if key, err := decode(text); err == nil && memberlist.ValidateKey(key) == nil {
			return key, nil
		}
	}
	return nil, errors.New("want 16, 24 or 32 random bytes in base64 or hexadecimal, for example the output of: openssl rand -base64 32")
}
