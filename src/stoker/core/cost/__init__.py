"""What serving cost: the price of machines, who they worked for, and who pays for what nobody used."""
