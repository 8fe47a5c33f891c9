"""What the service offers, and on which terms: data sets, products, licences."""
