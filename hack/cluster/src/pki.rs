//! The certificate authority and all certificates, made at once and published by one rename.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::layout::{self, make_dir, remove};
use crate::topology::{CLUSTER_DOMAIN, CONTROL_PLANE_IP, KUBERNETES_SERVICE_IP, NODES};

/// Whom a certificate names.
struct Subject {
    file: String,
    user: String,
    group: Option<&'static str>,
    /// DNS names and addresses under which it serves; a client only when there are none.
    names: Vec<String>,
}

/// Makes the certificates unless they are there.
pub fn ensure() -> Result<()> {
    let target = layout::root("pki");
    if target.is_dir() {
        return Ok(());
    }
    let half = layout::root("pki.new");
    remove(&half)?;
    make_dir(&half)?;
    generate(&half)?;
    fs::rename(&half, &target).with_context(|| format!("cannot publish {}", target.display()))
}

fn generate(dir: &Path) -> Result<()> {
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "kubernetes");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().context("cannot make the key of the certificate authority")?;
    let certificate = ca.self_signed(&key).context("cannot sign the certificate authority")?;
    write_pair(dir, "ca", &certificate, &key)?;
    let issuer = Issuer::new(ca, key);
    for subject in subjects() {
        let key = KeyPair::generate().with_context(|| format!("cannot make the key of {}", subject.file))?;
        let certificate = params(&subject)?
            .signed_by(&key, &issuer)
            .with_context(|| format!("cannot sign the certificate {}", subject.file))?;
        write_pair(dir, &subject.file, &certificate, &key)?;
    }
    let key = KeyPair::generate().context("cannot make the key of service accounts")?;
    layout::write(&dir.join("service-accounts.pub"), key.public_key_pem())?;
    layout::write(&dir.join("service-accounts.key"), key.serialize_pem())
}

/// Everyone who needs a certificate.
fn subjects() -> Vec<Subject> {
    let client = |file: &str, user: &str, group| Subject {
        file: file.into(),
        user: user.into(),
        group,
        names: vec![],
    };
    let mut all = vec![
        Subject {
            file: "apiserver".into(),
            user: "kube-apiserver".into(),
            group: None,
            names: api_server_names(),
        },
        client("admin", "kubernetes-admin", Some("system:masters")),
        client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", Some("system:masters")),
        client("controller-manager", "system:kube-controller-manager", None),
        client("scheduler", "system:kube-scheduler", None),
        client("kube-proxy", "system:kube-proxy", None),
    ];
    all.extend(NODES.iter().map(|node| Subject {
        file: node.name().into(),
        user: format!("system:node:{}", node.name()),
        group: Some("system:nodes"),
        names: vec![node.name().into(), node.machine.ip()],
    }));
    all
}

fn api_server_names() -> Vec<String> {
    let service = "kubernetes.default.svc";
    let mut names: Vec<String> =
        ["localhost", "kubernetes", "kubernetes.default", service].map(Into::into).into();
    names.push(format!("{service}.{CLUSTER_DOMAIN}"));
    // Its own address, the Service's, and the relay's on the host.
    names.extend([CONTROL_PLANE_IP, KUBERNETES_SERVICE_IP, "127.0.0.1"].map(Into::into));
    names
}

fn params(subject: &Subject) -> Result<CertificateParams> {
    // rcgen tells addresses from DNS names and makes the right kind of each.
    let mut params = CertificateParams::new(subject.names.clone())
        .with_context(|| format!("the names of {} are not usable in a certificate", subject.file))?;
    params.distinguished_name.push(DnType::CommonName, subject.user.as_str());
    if let Some(group) = subject.group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if !subject.names.is_empty() {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    Ok(params)
}

fn write_pair(dir: &Path, name: &str, certificate: &Certificate, key: &KeyPair) -> Result<()> {
    layout::write(&dir.join(format!("{name}.crt")), certificate.pem())?;
    // The temporary file behind `write` is readable by its owner only, and stays so.
    layout::write(&dir.join(format!("{name}.key")), key.serialize_pem())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::SanType;
    use std::net::IpAddr;

    fn subject(file: &str) -> Subject {
        subjects().into_iter().find(|subject| subject.file == file).unwrap()
    }

    #[test]
    fn the_api_server_is_known_by_its_service_and_to_the_host() {
        let sans = params(&subject("apiserver")).unwrap().subject_alt_names;
        let has_ip = |ip: &str| sans.contains(&SanType::IpAddress(ip.parse::<IpAddr>().unwrap()));
        assert!(has_ip("127.0.0.1") && has_ip(KUBERNETES_SERVICE_IP) && has_ip(CONTROL_PLANE_IP));
        let dns = SanType::DnsName("kubernetes.default.svc.cluster.local".try_into().unwrap());
        assert!(sans.contains(&dns), "{sans:?}");
    }

    #[test]
    fn a_client_certificate_does_not_serve() {
        let admin = params(&subject("admin")).unwrap();
        assert_eq!(admin.extended_key_usages, [ExtendedKeyUsagePurpose::ClientAuth]);
    }

    #[test]
    fn a_node_is_in_the_group_that_the_node_authorizer_asks_for() {
        let node = subject("node-1");
        assert_eq!((node.user.as_str(), node.group), ("system:node:node-1", Some("system:nodes")));
    }

    #[test]
    fn every_subject_gets_a_certificate_and_a_private_key() {
        let dir = tempfile::tempdir().unwrap();
        generate(dir.path()).unwrap();
        for subject in subjects() {
            let read =
                |end: &str| fs::read_to_string(dir.path().join(format!("{}.{end}", subject.file))).unwrap();
            assert!(read("crt").starts_with("-----BEGIN CERTIFICATE-----"));
            assert!(read("key").starts_with("-----BEGIN PRIVATE KEY-----"));
        }
    }
}
