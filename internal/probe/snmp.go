package probe

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gosnmp/gosnmp"

	"vedette/internal/uptime"
)

// snmpTries is how often a question is sent: a datagram may be lost.
const snmpTries = 3

// snmpConfig is the config of an SNMP monitor.
type snmpConfig struct {
	Version         string        `json:"version" enum:"1,2c,3" doc:"the version of SNMP"`
	Community       uptime.Secret `json:"community" doc:"the community of versions 1 and 2c; empty is public"`
	Username        string        `json:"username" max:"32" doc:"the user of version 3"`
	AuthProtocol    string        `json:"auth_protocol" enum:"MD5,SHA,SHA-224,SHA-256,SHA-384,SHA-512" doc:"how username is authenticated, if auth_password is there"`
	AuthPassword    uptime.Secret `json:"auth_password" doc:"of version 3, 8 letters or more"`
	PrivacyProtocol string        `json:"privacy_protocol" enum:"DES,AES,AES-192,AES-256" doc:"how messages are encrypted, if privacy_password is there"`
	PrivacyPassword uptime.Secret `json:"privacy_password" doc:"of version 3, 8 letters or more"`
	OID             string        `json:"oid" max:"512" doc:"the object to get; without another, sysUpTime"`
	netConfig
}

// newSNMP is the "snmp" check type.
func newSNMP() Type {
	return kind[snmpConfig]{
		name:   "snmp",
		about:  "Gets one object of an SNMP agent, over UDP. Up is an agent that has it.",
		target: hostPort(161),
		config: snmpConfig{Version: "2c", AuthProtocol: "SHA", PrivacyProtocol: "AES", OID: "1.3.6.1.2.1.1.3.0", netConfig: defaultNet()},
		sources: merged(addressSource(), map[string]source{
			"value":  textSource("value", "the object as text; octets that are no text are in hex", uptime.AssertFailed),
			"number": numberSource("number", "the object, if it is a number; timeticks are hundredths of a second", "", uptime.AssertFailed),
		}),
		examples: []uptime.CheckExample{{
			Title: "A switch's name, with version 3", Target: "switch.example",
			Config:     `{"version":"3","username":"probe","auth_password":"long-secret","privacy_password":"other-secret","oid":"1.3.6.1.2.1.1.5.0"}`,
			Assertions: `[{"source":"value","op":"eq","value":"core-1"}]`,
		}},
		compile: func(b *builder, cfg *snmpConfig) Check {
			cfg.validate(b.problems)
			b.network(cfg.netConfig)
			return b.check(cfg.do)
		},
	}
}

// snmpOID is an object's name in the form in which an answer gives it, too.
var snmpOID = regexp.MustCompile(`^\.?[0-2](\.(0|[1-9][0-9]{0,9}))+$`)

func (c *snmpConfig) validate(p *uptime.Problems) {
	if !snmpOID.MatchString(c.OID) {
		p.Add("config.oid", "must be numbers with dots between, such as 1.3.6.1.2.1.1.3.0")
	} else if _, err := (&gosnmp.SnmpPacket{PDUType: gosnmp.GetRequest, Variables: []gosnmp.SnmpPDU{{Name: c.OID, Type: gosnmp.Null}}}).MarshalMsg(); err != nil {
		p.Add("config.oid", "is the name of no object: a number is too large, or there are too many")
	}
	if c.Version == "3" && c.Username == "" {
		p.Add("config.username", "is missing; version 3 needs it")
	}
	if c.PrivacyPassword != "" && c.AuthPassword == "" {
		p.Add("config.auth_password", "is missing; messages are not encrypted without it")
	}
	for path, secret := range map[string]uptime.Secret{"auth_password": c.AuthPassword, "privacy_password": c.PrivacyPassword} {
		if secret != "" && len(secret.Reveal()) < 8 { // RFC 3414 §11.2
			p.Add("config."+path, "must be of 8 letters or more")
		}
	}
}

// do asks for the object.
func (c *snmpConfig) do(r *session) *fault {
	conn, f := r.packets()
	if f != nil {
		return f
	}
	client := c.client(r)
	// The library has no way to take a connection, and Connect makes more than one: it
	// gets a socket on which nothing is sent, and then the session's.
	if err := client.Connect(); err != nil {
		return unknown(uptime.InternalError, "The SNMP client cannot be made: %s.", clean(r.withoutSecrets(err.Error()), 150))
	}
	_ = client.Conn.Close()
	client.Conn = conn
	begin := time.Now()
	answer, err := client.Get([]string{c.OID})
	r.phases.FirstByte = time.Since(begin)
	if err != nil {
		return c.failed(r, client, err)
	}
	r.seen.Protocol = "SNMP " + c.Version
	return c.judge(r, answer)
}

// client is one that sends at most snmpTries times, in a third of the time each.
func (c *snmpConfig) client(r *session) *gosnmp.GoSNMP {
	client := &gosnmp.GoSNMP{
		Context: r.ctx, Timeout: r.timeout / snmpTries, Retries: snmpTries - 1, MaxOids: 1,
		Target: "127.0.0.1", Port: 9, Transport: "udp4", LocalAddr: "127.0.0.1:0", UseUnconnectedUDPSocket: true, // of the socket that Connect makes
		Version: gosnmp.Version2c, Community: cmp.Or(c.Community.Reveal(), "public"),
	}
	switch c.Version {
	case "1":
		client.Version = gosnmp.Version1
	case "3":
		client.Version, client.SecurityModel, client.MsgFlags = gosnmp.Version3, gosnmp.UserSecurityModel, gosnmp.NoAuthNoPriv
		user := &gosnmp.UsmSecurityParameters{UserName: c.Username, AuthenticationProtocol: gosnmp.NoAuth, PrivacyProtocol: gosnmp.NoPriv}
		if c.AuthPassword != "" {
			client.MsgFlags = gosnmp.AuthNoPriv
			user.AuthenticationPassphrase = c.AuthPassword.Reveal()
			user.AuthenticationProtocol = map[string]gosnmp.SnmpV3AuthProtocol{
				"MD5": gosnmp.MD5, "SHA": gosnmp.SHA, "SHA-224": gosnmp.SHA224, "SHA-256": gosnmp.SHA256, "SHA-384": gosnmp.SHA384, "SHA-512": gosnmp.SHA512,
			}[cmp.Or(c.AuthProtocol, "SHA")]
		}
		if c.PrivacyPassword != "" {
			client.MsgFlags = gosnmp.AuthPriv
			user.PrivacyPassphrase = c.PrivacyPassword.Reveal()
			user.PrivacyProtocol = map[string]gosnmp.SnmpV3PrivProtocol{
				"DES": gosnmp.DES, "AES": gosnmp.AES, "AES-192": gosnmp.AES192, "AES-256": gosnmp.AES256,
			}[cmp.Or(c.PrivacyProtocol, "AES")]
		}
		client.SecurityParameters = user
	}
	return client
}

// failed is what no answer says.
func (c *snmpConfig) failed(r *session, client *gosnmp.GoSNMP, err error) *fault {
	user, _ := client.SecurityParameters.(*gosnmp.UsmSecurityParameters)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return connectFault(r.parent, r.trace.dialled, err)
	case errors.Is(err, gosnmp.ErrUnknownUsername), errors.Is(err, gosnmp.ErrWrongDigest), errors.Is(err, gosnmp.ErrDecryption), errors.Is(err, gosnmp.ErrUnknownSecurityLevel):
		return down(uptime.AuthFailed, "The agent refused the user: %s.", clean(err.Error(), 150))
	case r.parent.Err() == nil && (errors.Is(err, gosnmp.ErrMaxRetriesExceeded) || isTimeout(err) || !time.Now().Before(r.deadline)):
		// By version 3 the library says what the agent reported before it fell silent.
		if c.Version == "3" {
			return down(uptime.Timeout, "The agent did not answer within %s.", r.timeout)
		}
		return down(uptime.Timeout, "The agent did not answer within %s; it is silent to a wrong community too.", r.timeout)
	case snmpReported(err):
		return down(uptime.Protocol, "The agent reports: %s.", err)
	case c.AuthPassword != "" && user != nil && user.AuthoritativeEngineID != "" && !errors.Is(err, errTooMuch):
		// The agent said who it is, and then sent what this password does not sign: a
		// report of a wrong digest, which is not signed at all.
		return down(uptime.AuthFailed, "The agent refused the user, or another auth_password is set there.")
	}
	f := r.talkFault(err, "its answer")
	if f.reason == uptime.Protocol && !errors.Is(err, errTooMuch) {
		// The library would show the bytes in hex, and a community is among them.
		f.message = "The agent's answer cannot be read: it is no SNMP of version " + c.Version + ", or it is cut."
	}
	return f
}

// snmpReported reports whether err is what an agent said by version 3, other than that
// it refuses the user.
func snmpReported(err error) bool {
	for _, report := range []error{
		gosnmp.ErrInvalidMsgs, gosnmp.ErrNotInTimeWindow, gosnmp.ErrUnknownEngineID,
		gosnmp.ErrUnknownPDUHandlers, gosnmp.ErrUnknownReportPDU, gosnmp.ErrUnknownSecurityModels,
	} {
		if errors.Is(err, report) {
			return true
		}
	}
	return false
}

// judge looks at the object in the answer.
func (c *snmpConfig) judge(r *session, answer *gosnmp.SnmpPacket) *fault {
	switch {
	case answer.PDUType != gosnmp.GetResponse: // an echo of the question, a trap
		return down(uptime.Protocol, "The agent sent %s where an answer was due.", answer.PDUType)
	case answer.Error == gosnmp.AuthorizationError || answer.Error == gosnmp.NoAccess:
		return down(uptime.AuthFailed, "The agent does not let us see %s (%s).", c.OID, answer.Error)
	case answer.Error != gosnmp.NoError:
		return down(uptime.NotReady, "The agent has no answer for %s (%s).", c.OID, answer.Error)
	case len(answer.Variables) != 1 || strings.TrimPrefix(answer.Variables[0].Name, ".") != strings.TrimPrefix(c.OID, "."):
		return down(uptime.Protocol, "The agent answers for another object than %s.", c.OID)
	}
	v := answer.Variables[0]
	switch v.Type {
	case gosnmp.NoSuchObject, gosnmp.NoSuchInstance, gosnmp.EndOfMibView, gosnmp.Null:
		return down(uptime.NotReady, "The agent has no object %s (%s).", c.OID, v.Type)
	case gosnmp.UnknownType: // what the library makes of a value that it cannot decode, too
		return down(uptime.Protocol, "The agent's value of %s cannot be read.", c.OID)
	}
	shown, number := snmpValue(v)
	r.seen.Body = text([]byte(shown), evidenceBody)
	r.setText("value", shown)
	if number != nil {
		r.setNumber("number", *number)
	}
	return nil
}

// snmpValue is a value as text, and as a number if it is one.
func snmpValue(v gosnmp.SnmpPDU) (string, *float64) {
	switch v.Type {
	case gosnmp.Integer, gosnmp.Counter32, gosnmp.Gauge32, gosnmp.TimeTicks, gosnmp.Counter64, gosnmp.Uinteger32:
		return snmpNumber(gosnmp.ToBigInt(v.Value))
	case gosnmp.OpaqueFloat, gosnmp.OpaqueDouble: // net-snmp's loads and temperatures
		return snmpNumber(v.Value)
	}
	if v.Value == nil { // an IpAddress of no bytes
		return "", nil
	}
	if b, ok := v.Value.([]byte); ok {
		if utf8.Valid(b) && !strings.ContainsFunc(string(b), func(r rune) bool { return !unicode.IsPrint(r) && !unicode.IsSpace(r) }) {
			return string(b), nil
		}
		return hex.EncodeToString(b), nil
	}
	return fmt.Sprint(v.Value), nil
}

// snmpNumber is a number of any type as text, and as the float64 that is nearest to it.
func snmpNumber(v any) (string, *float64) {
	shown := fmt.Sprint(v)
	n, err := strconv.ParseFloat(shown, 64)
	if err != nil {
		return shown, nil
	}
	return shown, &n
}
