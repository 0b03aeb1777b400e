"""Small tasks whose true step advantages are known exactly: what credit is measured against."""
