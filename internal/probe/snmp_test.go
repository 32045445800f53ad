package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gosnmp/gosnmp"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// snmpAgent is a real snmpd. It knows the community canary-right and, by version 3,
// the user probe.
func snmpAgent(t *testing.T) string {
	t.Helper()
	return testenv.Start(t, testenv.ProgramSpec{
		Binary: "snmpd", Package: "snmpd", User: "Debian-snmp", Host: testenv.DatagramHost,
		Prepare: func(s *testenv.Program) error {
			return os.WriteFile(filepath.Join(s.Dir, "conf"), []byte(`[snmp] persistentDir `+s.Dir+`
[snmpd]
rocommunity canary-right 127.0.0.1
createUser probe SHA canary-auth AES canary-priv
rouser probe authPriv
sysName core-1
sysLocation Keller\nüber
`), 0o644)
		},
		Args: func(s *testenv.Program) []string {
			return []string{"-f", "-C", "-c", filepath.Join(s.Dir, "conf"), "-Lf", "/dev/null", "-I", "-smux", "udp:" + s.Addr}
		},
		Ready: func(s *testenv.Program) error {
			c, err := newSNMP().Compile(uptime.Monitor{Target: s.Addr, Timeout: short, Config: json.RawMessage(`{"community":"canary-right"}`)}, testEnv())
			if err != nil {
				return err
			}
			if out := c.Run(t.Context(), Attempt{}); out.Verdict != uptime.VerdictUp {
				return errors.New(out.Message)
			}
			return nil
		},
	}).Addr
}

// snmpFake is an agent that answers a question with what reply makes of it, unless
// that is nothing. It is for what snmpd does not do.
func snmpFake(t *testing.T, reply func(question []byte) []byte) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if answer := reply(b[:n]); answer != nil {
				_, _ = c.WriteTo(answer, from)
			}
		}
	}()
	return c.LocalAddr().String()
}

// snmpAnswer answers a question of version 2c with one variable or an error.
func snmpAnswer(v gosnmp.SnmpPDU, failure gosnmp.SNMPError) func([]byte) []byte {
	return func(question []byte) []byte {
		codec := &gosnmp.GoSNMP{Version: gosnmp.Version2c}
		asked, err := codec.SnmpDecodePacket(question)
		if err != nil {
			return nil
		}
		packet := gosnmp.SnmpPacket{
			Version: gosnmp.Version2c, Community: asked.Community, PDUType: gosnmp.GetResponse, RequestID: asked.RequestID,
			Error: failure, Variables: []gosnmp.SnmpPDU{v},
		}
		b, _ := packet.MarshalMsg()
		return b
	}
}

// snmpPatched is answer with the bytes old in it replaced by as many others.
func snmpPatched(answer func([]byte) []byte, old, other string) func([]byte) []byte {
	return func(question []byte) []byte {
		return bytes.Replace(answer(question), []byte(old), []byte(other), 1)
	}
}

func snmpSilent([]byte) []byte { return nil }

func TestSNMP(t *testing.T) {
	t.Parallel()
	down, up := uptime.VerdictDown, uptime.VerdictUp
	agent := snmpAgent(t)
	const uptimeOID, name = "1.3.6.1.2.1.1.3.0", "1.3.6.1.2.1.1.5.0"
	of := func(version, oid string) string {
		return `{"version":"` + version + `","community":"canary-right","oid":"` + oid + `"}`
	}
	user := func(auth, private, more string) string {
		return `{"version":"3","username":"probe","auth_password":"` + auth + `","privacy_password":"` + private + `"` + more + `}`
	}
	value := func(op, v string) []uptime.Assertion { return []uptime.Assertion{assert("value", "", op, v)} }
	number := func(op string, n float64) []uptime.Assertion {
		return []uptime.Assertion{assert("number", "", op, n)}
	}
	fake := func(typ gosnmp.Asn1BER, v any) string {
		return snmpFake(t, snmpAnswer(gosnmp.SnmpPDU{Name: "." + uptimeOID, Type: typ, Value: v}, gosnmp.NoError))
	}
	seven := snmpAnswer(gosnmp.SnmpPDU{Name: "." + uptimeOID, Type: gosnmp.TimeTicks, Value: uint32(7)}, gosnmp.NoError)
	lossy := 0
	brokerCases(t, "snmp", map[string]brokerCase{
		"version 2c is up":                       {target: agent, config: of("2c", uptimeOID), assertions: number("gt", 0), verdict: up},
		"version 1 is up":                        {target: agent, config: of("1", uptimeOID), verdict: up},
		"version 3 is up":                        {target: agent, config: user("canary-auth", "canary-priv", ""), verdict: up},
		"a text is up":                           {target: agent, config: of("2c", name), assertions: value("eq", "core-1"), verdict: up},
		"an object identifier is up":             {target: agent, config: of("2c", ".1.3.6.1.2.1.1.2.0"), assertions: value("matches", `^\.?1\.3\.6\.1\.4`), verdict: up},
		"octets that are no text are in hex":     {target: fake(gosnmp.OctetString, []byte{0, 0x1b, 0xff}), assertions: value("eq", "001bff"), verdict: up},
		"a large counter is a number":            {target: fake(gosnmp.Counter64, uint64(1)<<63), assertions: number("gt", 9e18), verdict: up},
		"a lost datagram is sent again":          {target: snmpFake(t, snmpLossy(&lossy, snmpAnswer(gosnmp.SnmpPDU{Name: "." + uptimeOID, Type: gosnmp.TimeTicks, Value: uint32(7)}, gosnmp.NoError))), timeout: 4 * short, verdict: up},
		"a slow answer in time is up":            {target: snmpFake(t, snmpLate(snmpAnswer(gosnmp.SnmpPDU{Name: "." + uptimeOID, Type: gosnmp.TimeTicks, Value: uint32(7)}, gosnmp.NoError))), verdict: up},
		"a wrong community is timeout, and says": {target: agent, config: `{"community":"canary-wrong"}`, timeout: 2 * short, verdict: down, reason: uptime.Timeout, says: "community"},
		"a wrong password is auth_failed":        {target: agent, config: user("canary-wrong", "canary-priv", ""), verdict: down, reason: uptime.AuthFailed},
		"an unknown user is auth_failed":         {target: agent, config: `{"version":"3","username":"nobody"}`, verdict: down, reason: uptime.AuthFailed},
		"an object that is not there":            {target: agent, config: of("2c", "1.3.6.1.2.1.1.99.0"), verdict: down, reason: uptime.NotReady, says: "1.99.0"},
		"an object that is not there, version 1": {target: agent, config: of("1", "1.3.6.1.2.1.1.99.0"), verdict: down, reason: uptime.NotReady},
		"an error of the agent":                  {target: snmpFake(t, snmpAnswer(gosnmp.SnmpPDU{Name: "." + uptimeOID, Type: gosnmp.Null}, gosnmp.GenErr)), verdict: down, reason: uptime.NotReady},
		"an agent that forbids":                  {target: snmpFake(t, snmpAnswer(gosnmp.SnmpPDU{Name: "." + uptimeOID, Type: gosnmp.Null}, gosnmp.AuthorizationError)), verdict: down, reason: uptime.AuthFailed},
		"a load is a number":                     {target: agent, config: of("2c", "1.3.6.1.4.1.2021.10.1.6.1"), assertions: number("lt", 1e4), verdict: up},
		"a double is a number":                   {target: fake(gosnmp.OpaqueDouble, 0.25), assertions: number("eq", 0.25), verdict: up},
		"a float is the number that is shown":    {target: fake(gosnmp.OpaqueFloat, float32(0.1)), assertions: append(number("eq", 0.1), value("eq", "0.1")...), verdict: up},
		"an address of no bytes is no text":      {target: snmpFake(t, snmpPatched(seven, "\x43\x01\x07", "\x40\x81\x00")), assertions: value("eq", ""), verdict: up},
		"a value of no known type":               {target: snmpFake(t, snmpPatched(seven, "\x43\x01\x07", "\x99\x01\x07")), verdict: down, reason: uptime.Protocol, says: "cannot be read"},
		"a counter of too many bytes":            {target: snmpFake(t, snmpPatched(snmpAnswer(gosnmp.SnmpPDU{Name: "." + uptimeOID, Type: gosnmp.OctetString, Value: "0123456789"}, gosnmp.NoError), "\x04\x0a0123", "\x41\x0a0123")), verdict: down, reason: uptime.Protocol, says: "cannot be read"},
		"an echo of the question":                {target: snmpFake(t, bytes.Clone), verdict: down, reason: uptime.Protocol, says: "GetRequest"},
		"a trap that holds the object":           {target: snmpFake(t, snmpPatched(seven, "\xa2", "\xa7")), verdict: down, reason: uptime.Protocol, says: "SNMPv2Trap"},
		"an answer for another object":           {target: snmpFake(t, snmpAnswer(gosnmp.SnmpPDU{Name: ".1.3.6.1.2.1.1.4.0", Type: gosnmp.Integer, Value: 1}, gosnmp.NoError)), verdict: down, reason: uptime.Protocol},
		"another text than asserted":             {target: agent, config: of("2c", name), assertions: value("eq", "core-2"), verdict: down, reason: uptime.AssertFailed, says: "core-1"},
		"silent":                                 {target: snmpFake(t, snmpSilent), timeout: short, verdict: down, reason: uptime.Timeout},
		"garbage is protocol":                    {target: snmpFake(t, func([]byte) []byte { return []byte("SSH-2.0-OpenSSH_9.2\r\n") }), verdict: down, reason: uptime.Protocol},
		"a broken answer tells no community":     {target: snmpFake(t, snmpPatched(bytes.Clone, "\x04\x0ccanary-right", "\x04\x7fcanary-right")), config: of("2c", uptimeOID), verdict: down, reason: uptime.Protocol, says: "no SNMP of version 2c, or it is cut."},
		"silent after a report by version 3":     {target: snmpFake(t, snmpReports(t, 2)), config: user("canary-auth", "canary-priv", ""), timeout: short, verdict: down, reason: uptime.Timeout},
		"reports of the time without end":        {target: snmpFake(t, snmpReports(t, 100)), config: user("canary-auth", "canary-priv", ""), verdict: down, reason: uptime.Protocol, says: "Report"},
		"nobody listens":                         {target: udpClosed(t), verdict: down, reason: uptime.ConnRefused},
	})
}

// snmpReports is an agent of version 3 that says who it is, and then, signed with the
// password canary-auth, that the time of each question is not its own; all that so many
// times, after which it keeps still.
func snmpReports(t *testing.T, times int) func([]byte) []byte {
	t.Helper()
	logger := gosnmp.NewLogger(log.New(io.Discard, "", 0))
	user := &gosnmp.UsmSecurityParameters{
		UserName: "probe", AuthoritativeEngineID: "engine", AuthoritativeEngineBoots: 1, AuthenticationProtocol: gosnmp.SHA, AuthenticationPassphrase: "canary-auth",
	}
	if err := user.InitSecurityKeys(); err != nil {
		t.Fatal(err)
	}
	said := 0
	return func([]byte) []byte {
		if said++; said > times {
			return nil
		}
		report := gosnmp.SnmpPacket{
			Version: gosnmp.Version3, MsgFlags: gosnmp.NoAuthNoPriv, SecurityModel: gosnmp.UserSecurityModel,
			SecurityParameters: &gosnmp.UsmSecurityParameters{AuthoritativeEngineID: "engine", Logger: logger},
			PDUType:            gosnmp.Report, Logger: logger,
			Variables: []gosnmp.SnmpPDU{{Name: ".1.3.6.1.6.3.15.1.1.4.0", Type: gosnmp.Counter32, Value: uint32(1)}}, // usmStatsUnknownEngineIDs
		}
		if said > 1 {
			report.MsgFlags, report.SecurityParameters = gosnmp.AuthNoPriv, user
			report.Variables[0].Name = ".1.3.6.1.6.3.15.1.1.2.0" // usmStatsNotInTimeWindows
		}
		b, err := report.MarshalMsg()
		if err != nil {
			t.Error(err)
		}
		return b
	}
}

// snmpLossy loses the first question.
func snmpLossy(n *int, answer func([]byte) []byte) func([]byte) []byte {
	return func(question []byte) []byte {
		if *n++; *n == 1 {
			return nil
		}
		return answer(question)
	}
}

// snmpLate lets a while pass before it answers.
func snmpLate(answer func([]byte) []byte) func([]byte) []byte {
	return func(question []byte) []byte {
		<-time.After(short)
		return answer(question)
	}
}

func TestSNMPRefusesAConfigThatCannotBeRun(t *testing.T) {
	t.Parallel()
	for config, path := range map[string]string{
		`{"oid":"sysUpTime"}`:                "config.oid",
		`{"oid":"1.3.6.1.4294967296"}`:       "config.oid",
		`{"oid":"1.40.1"}`:                   "config.oid",
		`{"oid":"1.3.06.1"}`:                 "config.oid",
		`{"version":"3"}`:                    "config.username",
		`{"privacy_password":"long-enough"}`: "config.auth_password",
		`{"auth_password":"short"}`:          "config.auth_password",
		`{"auth_protocol":"ROT13"}`:          "config.auth_protocol",
	} {
		_, err := New(testEnv()).Compile(uptime.Monitor{Type: "snmp", Target: "switch.example", Config: json.RawMessage(config)})
		if e, ok := errors.AsType[*uptime.Error](err); !ok || e.Fields[0].Path != path {
			t.Errorf("Compile of %s = %v, want a problem of %s", config, err, path)
		}
	}
}

func TestSNMPExamples(t *testing.T) {
	t.Parallel()
	runExample(t, "snmp", 0, snmpAgent(t), func(c map[string]any) { c["auth_password"], c["privacy_password"] = "canary-auth", "canary-priv" })
}

func TestSNMPLeavesNothingBehind(t *testing.T) {
	brokerSteady(t, "snmp",
		brokerCase{target: snmpFake(t, snmpSilent)},
		brokerCase{target: snmpFake(t, snmpSilent), config: `{"version":"3","username":"probe"}`},
		brokerCase{target: snmpFake(t, func([]byte) []byte { return []byte("garbage") })},
	)
}
