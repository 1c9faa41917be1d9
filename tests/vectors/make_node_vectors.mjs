// Makes node_sdk_callbacks.json: callbacks signed by Twilio's official Node SDK, for the ways in which a proxy may
// stand before us. The tests read the committed file and need no Node. To make it again:
//
//     npm install twilio && node make_node_vectors.mjs > node_sdk_callbacks.json

import { createRequire } from "node:module";
import process from "node:process";

const require = createRequire(`${process.cwd()}/`); // the SDK is wherever it was installed, never in the checkout
const { getExpectedBodyHash, getExpectedTwilioSignature } = require("twilio");
const { version } = require("twilio/package.json");

const MAIN = { account_sid: "AC" + "a1".repeat(16), auth_token: "5ecre7".repeat(5) + "00" };
const SUB = { account_sid: "AC" + "b2".repeat(16), auth_token: "70ken5".repeat(5) + "11" };

// `signed_origins`: Twilio drops the port for https and keeps it for http; its libraries try with and without.
const SETUPS = {
  plain: {
    public_url: "http://archive.example.com",
    signed_origins: ["http://archive.example.com", "http://archive.example.com:80"],
  },
  tls: {
    public_url: "https://archive.example.com",
    signed_origins: ["https://archive.example.com", "https://archive.example.com:443"],
  },
  prefix: {
    public_url: "https://archive.example.com/hooks/v%31",
    signed_origins: ["https://archive.example.com"],
    prefix: "/hooks/v%31",
  },
  port: {
    public_url: "https://archive.example.com:8443",
    signed_origins: ["https://archive.example.com", "https://archive.example.com:8443"],
  },
};

const QUERY = "?tenant=a%20b%2Fc&x=%C3%BC&y=";
const RECORDING = "RE" + "0c".repeat(16);
const ENCRYPTION = { type: "rsa-aes", public_key_sid: "CR" + "4e".repeat(16), encrypted_cek: "a+/b==", iv: "c/d=" };

const fields = ({ account_sid }) => ({
  AccountSid: account_sid,
  CallSid: "CA" + "9d".repeat(16),
  EncryptionDetails: JSON.stringify(ENCRYPTION),
  ErrorCode: "0",
  RecordingChannels: "2",
  RecordingDuration: "12",
  RecordingSid: RECORDING,
  RecordingSource: "DialVerb",
  RecordingStartTime: "Sun, 22 Nov 2026 10:11:12 +0000",
  RecordingStatus: "completed",
  RecordingTrack: "both",
  RecordingUrl: `https://api.twilio.com/2010-04-01/Accounts/${account_sid}/Recordings/${RECORDING}`,
  UnknownOne: "",
  UnknownTwo: "español & 1+1=2 – 100%",
});

const extended = (url, query) => url + (url.includes("?") ? "&" : "?") + query;

function request(account, url, content_type, body, params) {
  const signature = getExpectedTwilioSignature(account.auth_token, url, params);
  return { method: content_type ? "POST" : "GET", url, content_type, body, signature };
}

function form(account, url) {
  const params = fields(account);
  return request(account, url, "application/x-www-form-urlencoded", new URLSearchParams(params).toString(), params);
}

function get(account, url) {
  const query = new URLSearchParams(fields(account)).toString().replaceAll("+", "%20");
  return request(account, extended(url, query), null, "", {});
}

function json(account, url) {
  const body = JSON.stringify({ ...fields(account), EncryptionDetails: ENCRYPTION, ErrorCode: 0, ConferenceSid: null });
  return request(account, extended(url, `bodySHA256=${getExpectedBodyHash(body)}`), "application/json", body, {});
}

const vectors = [];
for (const [setup, { public_url, signed_origins, prefix = "" }] of Object.entries(SETUPS)) {
  for (const origin of signed_origins) {
    const url = `${origin}${prefix}/recording-status`;
    const ways = [
      ["form", form, MAIN, url],
      ["get", get, MAIN, url],
      ["json", json, MAIN, url],
      ["form of a subaccount", form, SUB, url],
      ["form with a query", form, MAIN, url + QUERY],
      ["form with an empty query", form, MAIN, url + "?"],
      ["form with a slash at the end", form, MAIN, url + "/"],
      ["get with a query", get, MAIN, url + QUERY],
    ];
    for (const [name, make, account, called] of ways) {
      const { url: signed_url, ...made } = make(account, called);
      vectors.push({
        setup,
        public_url,
        name: `${name}, signed for ${origin}`,
        account_sid: account.account_sid,
        recording_sid: RECORDING,
        ...made,
        target: signed_url.slice(origin.length),
      });
    }
  }
}
console.log(JSON.stringify({ made_by: `npm twilio ${version}`, accounts: [MAIN, SUB], vectors }, null, 1));
